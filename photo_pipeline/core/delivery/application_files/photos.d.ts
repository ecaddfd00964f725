/** What new URLs begin with. */
export const CDN: string;
export const PREFIX: string;
export const ROOTS: Record<string, { dir: string; urls: string[] }>;
export const VARIANTS: Record<string, number[]>;

/** The column written back as `formats_json`: a URL by variant and format, as JSON or parsed. */
export type Formats = string | Record<string, Record<string, string>> | null;

export interface PhotoSource {
  type: string;
  src: string;
  /** Undefined where there is one file only. */
  srcSet: string | undefined;
}

export interface PhotoSize {
  /** Of the file that the row names, in pixels. */
  width?: number | null;
  height?: number | null;
  formats?: Formats;
}

export function resolvePhotoUrl(
  value: string | null | undefined,
  options?: { root?: string; fallback?: string },
): string;
export function photoSources(url: string, size?: PhotoSize): PhotoSource[];
export function placeholderBackground(placeholder: string | null | undefined): string | undefined;
