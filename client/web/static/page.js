// Looks at the server every two seconds, as long as somebody looks at the page.

import { ask } from "./elements.js";
import { setClassNames } from "./answers.js";
import { form } from "./form.js";
import { live, trouble } from "./live.js";
import { start } from "./pictures.js";

const POLL_MS = 2000;

async function poll() {
  if (document.visibilityState === "visible") {
    try {
      const state = await ask("api/state");
      setClassNames(state.class_names);
      live(state);
      form(state);
      trouble(state.waiting);
    } catch (error) {
      trouble(error.message);
    }
  }
  setTimeout(poll, POLL_MS);
}

start();
poll();
