"""The dashboard as an ASGI application: its list of routes, and what each of them answers.

To mount something else under the same address (direct uploads), add a line to `routes`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from anyio import to_thread
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import schema_exists
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import GuardRefusedError, PhotoPipelineError
from photo_pipeline.core.live.state import LiveReader
from photo_pipeline.core.metrics import metrics_text
from photo_pipeline.core.migration import control
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.report.findings import list_findings
from photo_pipeline.core.report.write import HTML_NAME
from photo_pipeline.web.access import SESSION_S, Access, is_own_origin
from photo_pipeline.web.guard import Guard
from photo_pipeline.web.live import MOST_WATCHERS, Live, Look
from photo_pipeline.web.pages import asset, render

ACTOR: Final = "dashboard"
"""Who the audit log says it was."""

# The page's own policy names its one script by its hash; the sandbox takes our origin and cookie from it.
_REPORT_POLICY: Final = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts allow-popups"
)
_LARGEST_FORM: Final = 8_192
_LONGEST_REASON: Final = 500
_LISTED_PHOTOS: Final = 100
_ACTS: Final[dict[str, Callable[..., Any]]] = {
    "pause": control.pause,
    "resume": control.resume,
    "abort": control.abort,
}


def routes(dashboard: "Dashboard") -> list[Route]:
    """Return every address that is answered."""
    return [
        Route("/", dashboard.page),
        Route("/parts", dashboard.parts),  # the same page, for its script
        Route("/findings/{reason}", dashboard.findings),
        Route("/events", dashboard.events),
        Route("/api/status", dashboard.status),
        Route("/healthz", dashboard.health),
        Route("/metrics", dashboard.metrics),
        Route("/report", dashboard.report),
        Route("/open", dashboard.open),
        Route("/control/{act}", dashboard.ask, methods=["GET"]),
        Route("/control/{act}", dashboard.act, methods=["POST"]),
        Route("/static/{name}", dashboard.static),
    ]


def create_app(
    database: Database,
    config: PipelineConfig,
    access: Access,
    *,
    is_ending: Callable[[], bool] = lambda: False,
) -> Starlette:
    """Return the application.

    Args:
        database: With (or soon with) the state tables.
        config: The project's.
        access: Who may act.
        is_ending: Whether the server is about to stop.
    """
    live = Live(LiveReader(database, config).read, is_ending=is_ending)
    dashboard = Dashboard(database, config, access, live)
    return Starlette(routes=routes(dashboard), middleware=[Middleware(Guard, access=access)])


@dataclass(frozen=True)
class Dashboard:
    """Answers requests. Each method is one address of `routes`."""

    database: Database
    config: PipelineConfig
    access: Access
    live: Live

    async def page(self, request: Request) -> Response:
        """The page, complete without JavaScript."""
        return self._page(request, await self.live.look(fresh=True))

    async def parts(self, request: Request) -> Response:
        """The same page as the streams tell of it, for its script, which takes what differs."""
        return self._page(request, await self.live.look())

    def _page(self, request: Request, look: Look) -> Response:
        secret = self._form_secret(request)
        html = render("dashboard.html.j2", self.config, look=look, state=look.state, form_secret=secret)
        return HTMLResponse(html, status_code=200 if look.state else 503)

    async def status(self, request: Request) -> Response:
        """The state as JSON."""
        look = await self.live.look(fresh=True)
        return JSONResponse(look.document, status_code=503 if look.problem else 200)

    async def events(self, request: Request) -> Response:
        """The state as server-sent events."""
        if self.live.watchers >= MOST_WATCHERS:
            text = f"{MOST_WATCHERS} pages are watching already; close one of them.\n"
            return PlainTextResponse(text, status_code=503, headers={"retry-after": "30"})
        return StreamingResponse(
            self.live.stream(), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
        )

    async def findings(self, request: Request) -> Response:
        """The photos of one reason, a page at a time."""
        reason, after = request.path_params["reason"], request.query_params.get("after", "0")
        if not after.isdecimal() or len(after) > 18:
            return self._message("There is no such page.", 400)

        def read() -> Any:
            if not schema_exists(self.database):
                return None
            with self.database.read() as connection:
                return list_findings(connection, reason, limit=_LISTED_PHOTOS, after=int(after))

        try:
            group = await to_thread.run_sync(read)
        except PhotoPipelineError as error:
            return self._message(str(error), 503)
        if group is None:
            return self._message("No photo has this reason (any more).", 404)
        return HTMLResponse(render("findings.html.j2", self.config, group=group, page_size=_LISTED_PHOTOS))

    async def health(self, request: Request) -> Response:
        """Whether the dashboard can read the state, for load balancers and process managers."""
        look = await self.live.look()
        text = f"{look.problem.sentence}\n" if look.problem else "ok\n"
        return PlainTextResponse(text, status_code=503 if look.problem else 200)

    async def metrics(self, request: Request) -> Response:
        """Every metric, as Prometheus reads them."""
        try:
            text = await to_thread.run_sync(metrics_text, self.database, self.config)
        except PhotoPipelineError as error:
            return PlainTextResponse(f"{error}\n", status_code=503)
        return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def report(self, request: Request) -> Response:
        """The migration report as it was last written; it has a policy of its own, which allows less."""
        path = self.config.state.report_dir / HTML_NAME
        try:
            page = await to_thread.run_sync(path.read_bytes)
        except FileNotFoundError:
            return self._message("No report has been written: photo-pipeline report.", 404)
        return HTMLResponse(page, headers={"content-security-policy": _REPORT_POLICY})

    async def static(self, request: Request) -> Response:
        """The style and the script."""
        name = request.path_params["name"]
        media = _ASSETS.get(name)
        if media is None:
            return self._message("There is no such file.", 404)
        return Response(asset(name), media_type=media, headers={"cache-control": "no-cache"})

    async def open(self, request: Request) -> Response:
        """Exchange the token in the address for a cookie, and leave the token behind."""
        if request.method == "HEAD" or "prefetch" in request.headers.get("sec-purpose", ""):
            # A look ahead by a browser or a chat program must not use the token up.
            return self._message("Open this address in a browser.", 403)
        session = self.access.open_session(request.query_params.get("token", ""))
        if session is None:
            once = " It works once: start `photo-pipeline serve` again for another." if self._is_once else ""
            return self._message(f"This is not the token, or it was used already.{once}", 403)
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(
            _cookie(request),
            session,
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    async def ask(self, request: Request) -> Response:
        """The confirmation as a page of its own, where there is no JavaScript for a dialog."""
        act = request.path_params["act"]
        secret = self._form_secret(request)
        if act not in _ACTS:
            return self._message("There is no such control.", 404)
        if secret is None:
            return self._message(_READ_ONLY, 403)
        return HTMLResponse(render("ask.html.j2", self.config, act=act, form_secret=secret, problem=""))

    async def act(self, request: Request) -> Response:
        """Pause, resume or abort, if the request comes from our own page and its session."""
        act = request.path_params["act"]
        if act not in _ACTS:
            return self._message("There is no such control.", 404)
        session = request.cookies.get(_cookie(request))
        if not is_own_origin(
            request.headers.get("origin"), scheme=request.url.scheme, host=request.headers["host"]
        ):
            return self._message("This came from another page, so nothing was done.", 403)
        form = await _form(request)
        if form is None:
            return self._message("The form is too large, so nothing was done.", 413)
        if not self.access.may_act(session, form.get("form_secret", "")):
            return self._message(_READ_ONLY, 403)
        if act == "abort" and form.get("confirm", "").strip().lower() != "abort":
            html = render(
                "ask.html.j2",
                self.config,
                act=act,
                form_secret=form["form_secret"],
                problem="Nothing was done: type the word abort to confirm.",
            )
            return HTMLResponse(html, status_code=400)
        reason = " ".join(form.get("reason", "").split())[:_LONGEST_REASON]
        try:
            await to_thread.run_sync(lambda: self._carry_out(act, reason))
        except PhotoPipelineError as error:
            return self._message(str(error), 409 if error.exit_code == 3 else 503)
        return RedirectResponse("/", status_code=303)

    def _form_secret(self, request: Request) -> str | None:
        return self.access.form_secret(request.cookies.get(_cookie(request)))

    def _carry_out(self, act: str, reason: str) -> None:
        if not schema_exists(self.database):
            raise _nothing_to_control()
        _ACTS[act](self.database, reason=reason, run=new_run_id(), by=ACTOR)

    @property
    def _is_once(self) -> bool:
        return self.access.single_use

    def _message(self, text: str, status: int) -> Response:
        return HTMLResponse(render("message.html.j2", self.config, text=text), status_code=status)


_ASSETS: Final = {
    "dashboard.css": "text/css",
    "dashboard.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_READ_ONLY: Final = (
    "This page is read-only without the token: open the address that `photo-pipeline serve` printed. "
    "Nothing was done."
)


def _nothing_to_control() -> PhotoPipelineError:
    return GuardRefusedError(
        "the migration", cause="nothing has been migrated yet", fix="run `photo-pipeline migrate` first"
    )


def _cookie(request: Request) -> str:
    # Cookies know no ports: two dashboards on one machine must not end each other's sessions.
    _, port = request.scope.get("server") or ("", 0)
    return f"photo_pipeline_{port}"


async def _form(request: Request) -> dict[str, str] | None:
    """Return the fields of a form, or None if it is larger than ours can be."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_FORM:
            return None
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20)
    except ValueError:  # more fields than that
        return None
    return {name: values[-1] for name, values in fields.items()}
