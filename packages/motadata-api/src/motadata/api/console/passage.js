// The text of a document in a panel, with the cited passage marked and in view.

import { call } from "./api.js";
import { byId, element, show } from "./dom.js";
import { offsetsIn } from "./text.js";

// A long document is shown around its passage: browsers stall on tens of millions of characters.
const WINDOW = 150_000;

let latest = 0;
let opener = null;

export function startPassages() {
  const dialog = byId("passage");
  byId("passage-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => {
    latest += 1;
    opener?.focus();
  });
}

export function closePassage() {
  byId("passage").close();
}

export function openCitation(citation) {
  return open(citation, { version: citation.version, passage: citation });
}

export function openDocument(info) {
  return open(info, { version: info.version, passage: null });
}

async function open(what, { version, passage }) {
  const mine = (latest += 1);
  const dialog = byId("passage");
  const body = byId("passage-body");
  const place = [
    what.source,
    `version ${version}`,
    passage && passage.page !== null ? `page ${passage.page}` : null,
    passage && passage.heading,
  ];
  byId("passage-title").textContent = what.title || what.source;
  byId("passage-place").textContent = place.filter(Boolean).join(" · ");
  body.replaceChildren(element("p", { className: "muted working", text: "Opening" }));
  if (!dialog.open) {
    opener = document.activeElement;
    dialog.showModal();
  }
  try {
    const path = `/v1/documents/${encodeURIComponent(what.document_id)}?version=${version}`;
    const found = await call("GET", path);
    if (mine !== latest) return;
    render(body, found, passage, WINDOW);
  } catch (failure) {
    if (mine !== latest) return;
    const problem = failure.problem || { message: "The page failed to show the document." };
    const text = [problem.message, problem.remedy].filter(Boolean).join(" ");
    body.replaceChildren(element("p", { className: "problem", text, attributes: { role: "alert" } }));
  }
}

function render(body, found, passage, around) {
  const text = found.text;
  const unit = offsetsIn(text);
  const [start, end] = passage ? located(text, passage, unit) : [0, 0];
  const from = Math.max(0, start - around);
  const to = Math.min(text.length, end + around);
  const cuts = pageStarts(found.sections, unit).filter(([at]) => at >= from && at < to);
  const root = element("div", { className: "document-text" });
  const all = () => render(body, found, passage, text.length);
  if (from > 0) root.append(more("Show the text before", all));
  fill(root, text, { from, to, start, end, cuts });
  if (to < text.length) root.append(more("Show the text behind", all));
  body.replaceChildren(root);
  const marked = root.querySelector("mark");
  if (marked) marked.scrollIntoView({ block: "center" });
  else body.scrollTop = 0;
}

// Where the passage is: at its offsets, or, should the text differ, where its words are.
function located(text, passage, unit) {
  const start = unit(passage.start);
  const end = unit(passage.end);
  if (text.slice(start, end) === passage.quote) return [start, end];
  const found = text.indexOf(passage.quote);
  return found < 0 ? [start, end] : [found, found + passage.quote.length];
}

function pageStarts(sections, unit) {
  const starts = [];
  let page = null;
  for (const section of sections) {
    if (section.page !== null && section.page !== page) {
      page = section.page;
      starts.push([unit(section.start), page]);
    }
  }
  return starts;
}

function fill(root, text, { from, to, start, end, cuts }) {
  const pages = new Map(cuts);
  const borders = [...new Set([from, to, start, end, ...pages.keys()])]
    .filter((at) => at >= from && at <= to)
    .sort((a, b) => a - b);
  for (let index = 0; index < borders.length; index += 1) {
    const at = borders[index];
    const page = pages.get(at);
    if (page !== undefined) root.append(element("span", { className: "page", text: `Page ${page}` }));
    const piece = text.slice(at, borders[index + 1] ?? to);
    if (piece === "") continue;
    root.append(at >= start && at < end ? element("mark", { text: piece }) : piece);
  }
}

function more(text, handler) {
  return element("button", { className: "quiet small", text, attributes: { type: "button" },
    on: { click: handler } });
}
