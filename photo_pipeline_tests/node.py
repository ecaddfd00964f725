"""Runs a CloudFront Function in Node, in a context of its own that has none of Node's APIs."""

import json
import shutil
import subprocess
from types import TracebackType
from typing import Any

import pytest

# One event a line in, one answer a line out, so that a property test pays for one start of Node only.
_HARNESS = """
const vm = require('vm');
const lines = require('readline').createInterface({input: process.stdin});
let context = null;
lines.on('line', line => {
  const message = JSON.parse(line);
  let answer;
  try {
    if (message.code !== undefined) {
      context = vm.createContext({});
      vm.runInContext(message.code, context, {timeout: 1000});
      answer = {result: null};
    } else {
      context.input = JSON.stringify(message.event);
      const text = vm.runInContext('JSON.stringify(handler(JSON.parse(input)))', context, {timeout: 1000});
      answer = {result: JSON.parse(text)};
    }
  } catch (error) { answer = {error: String(error)}; }
  process.stdout.write(JSON.stringify(answer) + '\\n');
});
"""


class FunctionError(Exception):
    """The function threw, or is no JavaScript."""


class NodeFunction:
    """One function in one Node process; use it as a context manager."""

    def __init__(self, code: str) -> None:
        node = shutil.which("node")
        if node is None:
            pytest.skip("no `node` on the PATH: the routing function is JavaScript and cannot be run")
        self._process = subprocess.Popen(
            [node, "-e", _HARNESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        try:
            self._ask({"code": code})
        except FunctionError:
            self.close()
            raise

    def __enter__(self) -> "NodeFunction":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=10)

    def __call__(self, event: dict[str, Any]) -> Any:
        """Return what `handler(event)` returns.

        Raises:
            FunctionError: it threw.
        """
        return self._ask({"event": event})

    def _ask(self, message: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise FunctionError(answer["error"])
        return answer["result"]
