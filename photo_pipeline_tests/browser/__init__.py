"""What a person sees, in a real browser (Debian's Chromium, driven by Playwright)."""
