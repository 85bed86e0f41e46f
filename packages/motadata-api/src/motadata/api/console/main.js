// Puts the page together: who is asking, and what they see.

import { health, key, whenRefused } from "./api.js";
import { clearAnswers, startAsking } from "./ask.js";
import { byId, show, showProblem } from "./dom.js";
import { clearDocuments, reload, startDocuments } from "./documents.js";
import { closePassage, startPassages } from "./passage.js";
import { startUploads, stopUploads } from "./uploads.js";

const HEALTH_MILLISECONDS = 30_000;
const HEALTH = { ok: "Ready", degraded: "Ready, with limits", down: "Not available" };

// A key may come behind the '#' of the address, which browsers send to nobody. It does not stay there.
function takeKeyFromAddress() {
  if (!location.hash.startsWith("#key=")) return false;
  key.set(decodeURIComponent(location.hash.slice("#key=".length)));
  history.replaceState(null, "", location.pathname);
  return true;
}

function enter() {
  const known = Boolean(key.get());
  show(byId("gate"), !known);
  show(byId("workspace"), known);
  show(byId("tenant"), known);
  show(byId("leave"), known);
  byId("tenant-name").textContent = key.tenant();
  byId("tenant").title = key.tenant();
  if (known) {
    reload();
    byId("question").focus();
  } else {
    byId("key").focus();
  }
}

function leave(problem) {
  key.forget();
  closePassage();
  clearAnswers();
  clearDocuments();
  stopUploads();
  enter();
  showProblem(byId("key-error"), problem);
}

async function watchHealth() {
  if (document.visibilityState === "visible") {
    const state = await health();
    byId("health").dataset.state = state;
    byId("health-text").textContent = HEALTH[state] || "Unknown";
  }
  setTimeout(watchHealth, HEALTH_MILLISECONDS);
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = byId("key");
  key.set(field.value.trim());
  field.value = "";
  showProblem(byId("key-error"), null);
  enter();
});
byId("leave").addEventListener("click", () => leave(null));
window.addEventListener("hashchange", () => {
  if (takeKeyFromAddress()) {
    clearAnswers();
    clearDocuments();
    enter();
  }
});
whenRefused((problem) => {
  if (key.get()) leave(problem);
});

startPassages();
startUploads(reload);
startDocuments();
startAsking();
takeKeyFromAddress();
enter();
watchHealth();
