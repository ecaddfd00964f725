// Keeps the page as the server would show it now. An event says that something changed; then the parts of the
// page that differ are replaced. Without this script the page is complete, and is reloaded by hand.
"use strict";

const SILENCE_MS = 40000; // two heartbeats and a half
const AGAIN_MS = 3000;
document.documentElement.classList.add("js");

const byId = (id) => document.getElementById(id);
let source = null;
let silence = 0;
let fetching = false;
let behind = false;

function heard(at) {
  byId("lost").hidden = true;
  byId("live").textContent = at ? `Live, as of ${at.slice(11, 19)} UTC` : "Live";
  clearTimeout(silence);
  silence = setTimeout(lost, SILENCE_MS);
}

function lost() {
  const line = byId("lost");
  if (line.hidden) {
    const since = new Date().toISOString().slice(11, 19);
    line.textContent = `Connection lost at ${since} UTC. What stands here is old; trying again.`;
    line.hidden = false;
    byId("live").textContent = "Not live";
  }
  clearTimeout(silence);
  // EventSource tries again by itself, but not after an answer that was an error.
  if (source.readyState === EventSource.CLOSED) setTimeout(watch, AGAIN_MS);
  else silence = setTimeout(restart, SILENCE_MS);
}

function restart() {
  source.close();
  lost();
}

function watch() {
  if (source) source.close();
  source = new EventSource("/events");
  source.addEventListener("open", () => heard(""));
  source.addEventListener("error", lost);
  source.addEventListener("heartbeat", (event) => heard(JSON.parse(event.data).at));
  source.addEventListener("state", (event) => {
    const state = JSON.parse(event.data);
    heard(state.problem ? "" : state.as_of);
    if (state.standing) {
      document.title = state.standing.sentence;
      byId("top").className = `top ${state.standing.level}`;
      const controls = document.querySelector(".controls");
      if (controls) controls.dataset.control = state.control.control;
    }
    refresh();
  });
}

async function refresh() {
  if (fetching) {
    behind = true;
    return;
  }
  fetching = true;
  try {
    do {
      behind = false;
      const answer = await fetch("/parts", { credentials: "same-origin" });
      if (answer.ok) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } while (behind);
  } catch {
    // The stream notices too, and says so.
  } finally {
    fetching = false;
  }
}

function show(fresh) {
  const parts = [...fresh.querySelectorAll("[data-part]")];
  if (parts.some((part) => !byId(part.id))) {
    // Another kind of page (the first inventory has been taken): not while somebody fills in a form.
    if (!document.querySelector("dialog[open]")) location.reload();
    return;
  }
  for (const part of parts) {
    const shown = byId(part.id);
    if (shown.innerHTML !== part.innerHTML && !isSelected(shown)) replace(shown, part);
  }
}

function isSelected(part) {
  const selection = getSelection();
  return !selection.isCollapsed && selection.containsNode(part, true);
}

function replace(shown, fresh) {
  const focused = shown.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  shown.replaceChildren(...fresh.childNodes);
  if (focused) shown.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
}

for (const button of document.querySelectorAll("[data-opens]")) {
  button.addEventListener("click", () => byId(`dialog-${button.dataset.opens}`).showModal());
}
watch();
