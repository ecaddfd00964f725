import type { ImgHTMLAttributes, ReactElement } from "react";
import type { Formats } from "./photos.js";

export interface PhotoProps extends Omit<ImgHTMLAttributes<HTMLImageElement>, "src" | "srcSet" | "width" | "height"> {
  /** What the row says: an old path, a URL or an object key. */
  value: string | null | undefined;
  /** What the photo shows, in words; "" if it only decorates. */
  alt: string;
  /** Of the file that the row names, in pixels; they keep the page from jumping. */
  width?: number | null;
  height?: number | null;
  /** How wide the photo is shown, as in <img sizes>; "100vw" if left out. */
  sizes?: string;
  /** Shown until the photo is there: a data: URI, or a colour as #rrggbb. */
  placeholder?: string | null;
  /** Which files there are, if the rows have that column. */
  formats?: Formats;
  /** Load it when it comes near the screen (the default); false for what is seen first. */
  lazy?: boolean;
  /** Shown where the row says nothing, or every file of the photo fails. */
  fallback?: string;
  /** The folder of old, relative paths, by its name in ROOTS. */
  root?: string;
}

export function Photo(props: PhotoProps): ReactElement | null;
