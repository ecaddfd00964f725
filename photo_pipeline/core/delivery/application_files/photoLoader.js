// Next.js: next/image takes its files from the CDN, each in the smallest size that is wide enough.
//
//   next.config.js   images: { loader: "custom", loaderFile: "./photoLoader.js", deviceSizes: [400, 800, 1200] }
//   a page           <Image src={row.url} alt={row.title} width={row.width} height={row.height} />
//
// The sizes come from the CDN as they are, so `quality` has no effect. The format is the one that the row names;
// with `rewrite.format: auto` the CDN chooses it. <Photo> offers all formats without that.

import { photoSources, resolvePhotoUrl, VARIANTS } from "./photos.js";

export default function photoLoader({ src, width }) {
  const url = resolvePhotoUrl(src);
  const [shown] = /[^/]+(?=\.[a-z]+$)/.exec(url) ?? [];
  // An old row's file has one size; so has a crop.
  if (!photoSources(url).length || !(shown in VARIANTS)) return url;
  const byWidth = Object.entries(VARIANTS).sort(([, [a]], [, [b]]) => a - b);
  const [name] = byWidth.find(([, [across]]) => across >= width) ?? byWidth.at(-1);
  return url.replace(/[^/]+(?=\.[a-z]+$)/, name);
}
