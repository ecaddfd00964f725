"use client";
// <Photo>: an old row's photo or a new one's; AVIF, WebP and JPEG, a placeholder, and something to show on failure.
//
//   <Photo value={row.url} alt={row.title} width={row.width} height={row.height} placeholder={row.placeholder} />

import { useState } from "react";
import { photoSources, placeholderBackground, resolvePhotoUrl } from "./photos.js";

/** Props are described in Photo.d.ts; those not named here go to the <img>. */
export function Photo(props) {
  // Another value is another photo: nothing of what became of the former one counts.
  return <Attempt key={props.value} {...props} />;
}

function Attempt({ value, alt, width, height, sizes = "100vw", placeholder, formats, lazy = true, ...rest }) {
  const { fallback, root, style, ...attributes } = rest;
  const [loaded, setLoaded] = useState(false);
  const [failures, setFailures] = useState(0);
  const instead = resolvePhotoUrl(fallback);
  const url = resolvePhotoUrl(value, { root, fallback: instead });
  const sources = photoSources(url, { width, height, formats });
  const plain = sources.pop() ?? { src: url };

  if (!url) return null;

  // What to try, one after the other: the best format, the plain file, the fallback; then the alt text is all.
  const attempts = [plain.src, sources.length ? plain.src : "", instead].filter(Boolean);
  const first = failures === 0;
  const gone = failures >= attempts.length;
  const noticed = (image) => {
    // Before React was there to listen, it may have loaded or failed already.
    if (image?.complete && image.naturalWidth) setLoaded(true);
    else if (image?.complete && image.getAttribute("src")) setFailures((count) => count || 1);
  };

  const image = (
    <img
      key={failures}
      ref={first ? noticed : undefined}
      {...attributes}
      sizes={first && plain.srcSet ? sizes : undefined}
      srcSet={first ? plain.srcSet : undefined}
      src={attempts[failures]}
      alt={alt}
      width={width ?? undefined}
      height={height ?? undefined}
      loading={lazy ? "lazy" : "eager"}
      fetchPriority={lazy ? undefined : "high"}
      decoding="async"
      style={{ background: loaded || gone ? undefined : placeholderBackground(placeholder), ...style }}
      data-failed={gone ? "" : undefined}
      onLoad={() => setLoaded(true)}
      onError={() => setFailures(failures + 1)}
    />
  );
  if (!first || !sources.length) return image;
  return (
    <picture>
      {sources.map(({ type, src, srcSet }) => (
        <source key={type} type={type} srcSet={srcSet ?? src} sizes={srcSet && sizes} />
      ))}
      {image}
    </picture>
  );
}
