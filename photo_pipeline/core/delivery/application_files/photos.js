// Shows photos while they move to the CDN, and after: old paths and new URLs alike. No dependencies.
//
//   resolvePhotoUrl("uploads/cats/7.jpg")               // "/uploads/cats/7.jpg", as before
//   resolvePhotoUrl("photos/ab/ab12…/9f3c…/full.jpg")   // "https://cdn.example.com/photos/ab/ab12…/full.jpg"
//
// A copy from `photo-pipeline helpers copy`; it is yours to change. photos.py does the same in Python.

// Your site, filled in from photo_pipeline.yaml.
export const CDN = "https://cdn.example.com";
export const PREFIX = "photos";
export const ROOTS = {"uploads": {"dir": "", "urls": ["/uploads/"]}};
export const VARIANTS = {"full": [1200, 1200]};
// End of your site.
// CDN: what new URLs begin with. PREFIX: what object keys begin with.
// ROOTS: folders of old photos; `urls` lead to what is in `dir`, the first one for rows that say a bare name.
//   `dir` is left empty for browsers; it is for rows that say a file's whole path on the server.
// VARIANTS: the boxes (pixels) that whole photos were fitted into; crops, such as thumbnails, are not here.

// The best comes first; every browser shows the last.
const TYPES = { avif: "image/avif", webp: "image/webp", jpg: "image/jpeg" };
const NEW = /^(.*\/([0-9a-f]{2})\/\2[0-9a-f]{62}\/[^/]+\/)([^/?#]+)\.(?:avif|webp|jpg|auto)$/;
const SCHEME = /^(?:(?:[a-z][a-z0-9+.-]*:)?\/\/|(?:data|blob|javascript|mailto|about|cid|vbscript):)/i;
const UNSAFE = /[\u0000-\u001f\u007f\ud800-\udfff]/u;
const PLACEHOLDER = /^(?:data:image\/[a-z]+;base64,[A-Za-z0-9+/=]+|#[0-9a-fA-F]{6})$/;

/** Return the URL to show for what a row says, or `fallback` if that shows nothing. See photos.py. */
export function resolvePhotoUrl(value, { root = Object.keys(ROOTS)[0], fallback = "" } = {}) {
  const text = String(value ?? "").trim().replaceAll("\\", "/");
  if (!text || UNSAFE.test(text)) return fallback;
  if (SCHEME.test(text)) return /^(https?:)?\/\//i.test(text) ? encoded(text) : fallback;
  if (text.startsWith(`${PREFIX}/`) && NEW.test(text)) return `${CDN}/${text}`;
  if (text.split("/").includes("..")) return fallback;
  // A name may have a # in it; what an old path says after a ? is a query.
  return encoded(oldUrl(text, ROOTS[root])).replaceAll("#", "%23");
}

/** Return type, src and srcSet of each format of a new URL, the best first; none for any other URL. */
export function photoSources(url, { width, height, formats } = {}) {
  const [, stem, , shown] = NEW.exec(url) ?? [];
  if (!stem) return [];
  const files = typeof formats === "string" ? JSON.parse(formats) : formats;
  const widths = widthsOf(shown, width, height, files);
  const file = (variant, extension) =>
    files?.[variant]?.[TYPES[extension].replace("image/", "")] ?? `${stem}${variant}.${extension}`;
  return Object.entries(TYPES).map(([extension, type]) => ({
    type,
    src: file(shown, extension),
    srcSet: widths.map(([w, name]) => `${file(name, extension)} ${w}w`).join(", ") || undefined,
  }));
}

/** Return the CSS background that shows a placeholder; undefined for anything that is not one. */
export function placeholderBackground(placeholder) {
  if (!PLACEHOLDER.test(placeholder ?? "")) return undefined;
  return placeholder[0] === "#" ? placeholder : `url(${placeholder}) center/cover no-repeat`;
}

// [width in pixels, variant] of the files to choose from, the narrowest first.
function widthsOf(shown, width, height, files) {
  if (!(shown in VARIANTS)) return []; // A crop shows something else than the rest.
  const inBox = (name) => {
    const [across, down] = VARIANTS[name];
    return width && height ? Math.min(across, Math.round((down * width) / height)) : across;
  };
  const names = Object.keys(VARIANTS).filter((name) => name !== shown && (!files || name in files));
  // Where the photo itself is smaller than its box, all larger boxes hold the same pixels.
  const limit = width && width < inBox(shown) - 1 ? width : Infinity;
  const widths = new Map(names.map((name) => [inBox(name), name]).filter(([w]) => w < limit));
  widths.set(width || inBox(shown), shown);
  return widths.size > 1 ? [...widths].sort(([a], [b]) => a - b) : [];
}

// Where the web server has an old file that a row names by path.
function oldUrl(path, { dir, urls }) {
  const slashed = path.startsWith("/") ? path : `/${path}`;
  if (dir && slashed.startsWith(dir)) return urls[0] + slashed.slice(dir.length);
  if (path.startsWith("/") || urls.some((url) => slashed.startsWith(url))) return slashed;
  return urls[0] + path.replace(/^\.\//, "");
}

// The URL with everything encoded that may not stand in one; what is encoded already stays.
function encoded(url) {
  return encodeURI(url).replace(/%25(?=[0-9A-Fa-f]{2})/g, "%");
}
