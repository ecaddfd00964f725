import { readFileSync } from "node:fs";
import { renderToString } from "react-dom/server";
import { Page } from "./page.jsx";

process.stdout.write(renderToString(<Page photos={JSON.parse(readFileSync(0))} />));
