// Compiled by TypeScript, never run: what the declarations allow, and what they refuse.
import { Photo } from "./Photo";
import photoLoader from "./photoLoader";
import { photoSources, resolvePhotoUrl } from "./photos";

const row: { url: string | null; width: number | null } = { url: null, width: null };

export const page = <Photo value={row.url} alt="A cat" width={row.width} className="card" lazy={false} />;
export const url: string = resolvePhotoUrl(row.url, { root: "uploads", fallback: "/none.png" });
export const types: string[] = photoSources(url, { width: 800, formats: { full: { avif: url } } }).map((each) => each.type);
export const loaded: string = photoLoader({ src: url, width: 640 });

// @ts-expect-error: alt is required
export const silent = <Photo value={row.url} />;
// @ts-expect-error: which file it is, is for `value` to say
export const twice = <Photo value={row.url} alt="" src="/a.jpg" />;
