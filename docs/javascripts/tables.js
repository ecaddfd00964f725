// Wide tables scroll sideways on a phone; without a tab stop the keyboard cannot (axe: scrollable-region-focusable).
new MutationObserver(() => {
  for (const wrap of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) wrap.tabIndex = 0;
}).observe(document.documentElement, { childList: true, subtree: true });
