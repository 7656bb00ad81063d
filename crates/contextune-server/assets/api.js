// Requests to the server: tokens, a full queue, and a server that is away for a while are handled here, for everyone.

import { byId, say } from "./dom.js";

/** What the server refused, with its sentence. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const TRIES_WHEN_FULL = 5;
const TRIES_WHEN_GONE = 3;
const LOOK_EVERY = 1000;
const HEARTBEAT = 5000;

const wait = (milliseconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });

const backListeners = [];

/** Calls `listener` when the server answers again after it did not. */
export const whenBack = (listener) => backListeners.push(listener);

const answers = () => fetch("healthz", { cache: "no-store" }).then(() => true, () => false);

let returning = null;

/** Shows that the server is gone, and waits until it answers. */
function untilBack() {
  returning ??= (async () => {
    say(byId("gone"), "The server does not answer. This page goes on by itself when it does.");
    do await wait(LOOK_EVERY);
    while (!(await answers()));
    say(byId("gone"));
    returning = null;
    for (const listener of backListeners) listener();
  })();
  return returning;
}

/** Notices a server that goes away while nobody asks it anything. */
export async function watchServer() {
  for (;;) {
    await wait(HEARTBEAT);
    if (returning === null && !document.hidden && !(await answers())) await untilBack();
  }
}

let admission = null;

/** Shows the token form until the server takes a token. */
function untilAdmitted() {
  admission ??= new Promise((resolve) => {
    const dialog = byId("token");
    const text = byId("token-text");
    const error = byId("token-error");
    // Without a token there is nothing behind the dialog.
    const stay = () => dialog.showModal();
    dialog.addEventListener("close", stay);
    byId("token-form").onsubmit = async (event) => {
      event.preventDefault();
      try {
        const response = await fetch("login", { method: "POST", body: new URLSearchParams({ token: text.value.trim() }) });
        if (!response.ok) {
          say(error, response.status === 401 ? "That is not the token of this server." : await sentence(response));
          text.select();
          return;
        }
      } catch {
        say(error, "The server does not answer.");
        return;
      }
      say(error);
      text.value = "";
      dialog.removeEventListener("close", stay);
      dialog.close();
      admission = null;
      resolve();
    };
    stay();
  });
  return admission;
}

async function sentence(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).error ?? text;
  } catch {
    return text || `The server answered ${response.status}.`;
  }
}

/**
 * Asks the server and returns its JSON (null for no content).
 * `repeat: false` is for what must not happen twice.
 */
export async function ask(path, { method = "GET", body, signal, repeat = true } = {}) {
  let full = 0;
  let gone = 0;
  for (;;) {
    let response;
    try {
      response = await fetch(path, { method, body, signal, cache: "no-store" });
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      gone += 1;
      const back = untilBack();
      if (!repeat || gone === TRIES_WHEN_GONE) throw new Error("The server broke off the connection.", { cause: error });
      await back;
      signal?.throwIfAborted();
      continue;
    }
    if (response.status === 401) {
      await untilAdmitted();
      signal?.throwIfAborted();
    } else if (response.status === 503 && (full += 1) < TRIES_WHEN_FULL) {
      const seconds = Number(response.headers.get("retry-after")) || 1;
      await wait(1000 * seconds * full, signal);
    } else if (!response.ok) {
      throw new Refused(response.status, await sentence(response));
    } else {
      return response.status === 204 ? null : response.json();
    }
  }
}
