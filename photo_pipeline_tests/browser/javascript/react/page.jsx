import { Photo } from "./Photo.jsx";

export function Page({ photos }) {
  return photos.map((photo, number) => <Photo key={number} {...photo} />);
}
