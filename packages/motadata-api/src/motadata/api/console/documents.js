// The tenant's documents: listed page by page, opened, removed.

import { call } from "./api.js";
import { announce, byId, element, show, showProblem } from "./dom.js";
import { openDocument } from "./passage.js";

const PAGE = 50;
const CONFIRM_MILLISECONDS = 5000;

let following = null;
let latest = 0;

export function startDocuments() {
  byId("more-documents").addEventListener("click", () => load(following));
}

export function clearDocuments() {
  latest += 1;
  following = null;
  byId("document-list").replaceChildren();
  byId("documents-count").textContent = "";
}

// Shows the first page anew. Of several calls at once, the last one counts.
export const reload = () => load(null);

async function load(after) {
  const mine = (latest += 1);
  const error = byId("documents-error");
  try {
    const query = after ? `?limit=${PAGE}&after=${encodeURIComponent(after)}` : `?limit=${PAGE}`;
    const page = await call("GET", `/v1/documents${query}`);
    if (mine !== latest) return;
    showProblem(error, null);
    const list = byId("document-list");
    const rows = page.documents.map(row);
    if (after) list.append(...rows);
    else list.replaceChildren(...rows);
    following = page.next;
    refresh();
  } catch (failure) {
    if (mine === latest && failure.status !== 401) showProblem(error, failure.problem);
  }
}

function refresh() {
  const count = byId("document-list").children.length;
  show(byId("more-documents"), following !== null);
  show(byId("documents-empty"), count === 0);
  byId("documents-count").textContent = count ? `${count}${following ? "+" : ""}` : "";
}

function row(info) {
  const title = element("button", {
    className: "link",
    text: info.title || info.source,
    attributes: { type: "button", title: info.source },
    on: { click: () => openDocument(info) },
  });
  const facts = [
    info.source === info.title ? null : info.source,
    `version ${info.version}`,
    `${info.chunks} ${info.chunks === 1 ? "passage" : "passages"}`,
    new Date(info.updated_at).toLocaleDateString(undefined, { dateStyle: "medium" }),
  ];
  const node = element(
    "li",
    { attributes: { "data-id": info.document_id } },
    element("div", { className: "document-line" }, title,
      removal(info, async () => {
        await call("DELETE", `/v1/documents/${encodeURIComponent(info.document_id)}`);
        node.remove();
        refresh();
        announce(`${info.title || info.source} is removed.`);
        byId("files").focus();
      })),
    element("p", { className: "muted small facts", text: facts.filter(Boolean).join(" · ") }),
  );
  return node;
}

// A button that wants to be pressed twice.
function removal(info, remove) {
  const name = info.title || info.source;
  const button = element("button", {
    className: "quiet small danger",
    text: "Remove",
    attributes: { type: "button", "aria-label": `Remove ${name}` },
  });
  let armed = 0;
  const disarm = () => {
    clearTimeout(armed);
    armed = 0;
    button.textContent = "Remove";
    button.setAttribute("aria-label", `Remove ${name}`);
    button.classList.remove("armed");
  };
  button.addEventListener("blur", disarm);
  button.addEventListener("click", async () => {
    if (!armed) {
      armed = setTimeout(disarm, CONFIRM_MILLISECONDS);
      button.textContent = "Really remove?";
      button.setAttribute("aria-label", `Really remove ${name}?`);
      button.classList.add("armed");
      return;
    }
    disarm();
    button.disabled = true;
    try {
      await remove();
    } catch (failure) {
      button.disabled = false;
      showProblem(byId("documents-error"), failure.problem || { message: failure.message });
    }
  });
  return button;
}
