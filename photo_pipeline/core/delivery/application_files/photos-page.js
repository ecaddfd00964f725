// For pages with photos from `picture()`: <script src="/static/photos-page.js" defer></script>
//
// Takes the placeholder away when the photo is there. When a file fails: the plain JPEG, then `fallback`, then the
// alt text, with the class "photo-failed". Needs no inline script, handler or style (Content-Security-Policy).
{
  const ours = (image) => image instanceof HTMLImageElement && "photo" in image.dataset;

  const shown = (image) => {
    image.style.background = "";
  };

  const failed = (image) => {
    const sources = image.parentElement.querySelectorAll(":scope > source");
    if (sources.length) {
      image.removeAttribute("srcset");
      sources.forEach((source) => source.remove()); // The browser now takes `src`.
    } else if (image.dataset.fallback) {
      image.src = image.dataset.fallback;
      delete image.dataset.fallback;
    } else {
      shown(image);
      image.classList.add("photo-failed");
    }
  };

  // These events do not bubble; they can be caught on their way down.
  document.addEventListener("load", ({ target }) => ours(target) && shown(target), true);
  document.addEventListener("error", ({ target }) => ours(target) && failed(target), true);

  for (const image of document.querySelectorAll("img[data-photo]")) {
    if (image.complete && image.currentSrc) (image.naturalWidth ? shown : failed)(image); // Before this script came.
    else if (image.dataset.photo) image.style.cssText += image.dataset.photo;
  }
}
