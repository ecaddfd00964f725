import { createRoot, hydrateRoot } from "react-dom/client";
import { Page } from "./page.jsx";

const element = document.getElementById("root");
let root;
window.hydrate = () => {
  const photos = JSON.parse(document.getElementById("photos").textContent);
  root = hydrateRoot(element, <Page photos={photos} />);
};
window.render = (photos) => {
  root ??= createRoot(element);
  root.render(<Page photos={photos} />);
};
