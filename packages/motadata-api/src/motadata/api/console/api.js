// Talks to the HTTP API with the key of this tab.

const KEY = "motadata.key";
const BROKEN = {
  code: "connection_broken",
  message: "The server did not answer.",
  remedy: "Check that it runs and try again; a file above its limit is cut off, too.",
};

export class ApiError extends Error {
  constructor(problem, status) {
    super(problem.message);
    this.problem = problem;
    this.status = status;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
  // mtd.<tenant>.<secret>
  tenant: () => (key.get() || "").split(".")[1] || "",
};

let onRefused = () => {};

export function whenRefused(handler) {
  onRefused = handler;
}

function failed(body, status) {
  const problem = body && body.error ? body.error : { ...BROKEN, code: `http_${status}` };
  if (status === 401) onRefused(problem);
  return new ApiError(problem, status);
}

export async function call(method, path, { body, signal } = {}) {
  const headers = { Authorization: `Bearer ${key.get()}`, Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      signal,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(BROKEN, 0);
  }
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => null);
  if (!response.ok || answer === null) throw failed(answer, response.status);
  return answer;
}

export async function health() {
  try {
    const response = await fetch("/healthz", { credentials: "omit" });
    return (await response.json()).status;
  } catch {
    return "down";
  }
}

// Sends one file. `onSent` gets the share that has left (0 to 1), `onStage` each step of the server.
// Returns { done, cancel }: `done` settles with the file's outcome.
export function upload(file, name, { onSent, onStage }) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    let read = 0;
    let last = null;
    const takeLines = () => {
      const text = request.responseText;
      for (let end = text.indexOf("\n", read); end >= 0; end = text.indexOf("\n", read)) {
        const line = JSON.parse(text.slice(read, end));
        read = end + 1;
        if (line.type === "progress") onStage(line.stage);
        else last = line;
      }
    };
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) onSent(event.loaded / event.total);
    };
    request.upload.onload = () => onSent(1);
    request.onprogress = () => {
      if (request.status === 200) takeLines();
    };
    request.onload = () => {
      if (request.status !== 200) {
        let body = null;
        try {
          body = JSON.parse(request.responseText);
        } catch {
          // Not ours: a proxy answered.
        }
        reject(failed(body, request.status));
        return;
      }
      takeLines();
      if (last && last.type === "done") resolve(last.files[0]);
      else reject(last ? new ApiError(last.error, 200) : new ApiError(BROKEN, 0));
    };
    request.onerror = () => reject(new ApiError(BROKEN, 0));
    request.onabort = () => reject(new DOMException("Cancelled", "AbortError"));
  });
  const form = new FormData();
  form.append("files", file, name);
  request.open("POST", "/v1/documents");
  request.setRequestHeader("Authorization", `Bearer ${key.get()}`);
  request.setRequestHeader("Accept", "application/x-ndjson, application/json");
  request.send(form);
  return { done, cancel: () => request.abort() };
}
