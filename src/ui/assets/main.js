// Signing in, and which view is shown.

import { Refused, signIn, signOut, whoami } from "./api.js";
import * as backends from "./backends.js";
import { h } from "./dom.js";
import * as groups from "./groups.js";
import { History, PERIOD } from "./metrics.js";
import { load } from "./model.js";
import * as openapi from "./openapi.js";
import * as stale from "./stale.js";

const views = { groups, backends, stale, openapi };
const [view, tabs, who, user, live] = ["view", "tabs", "who", "user", "live"].map((id) => document.getElementById(id));
let context = null;
let timer = 0;

async function start() {
  try {
    const name = await whoami();
    // A client certificate is enough; nobody in particular has to say who they are.
    if (name === "system:anonymous") return login();
    user.textContent = name;
  } catch (error) {
    return login(error instanceof Refused && [401, 403].includes(error.status) ? "" : error.message);
  }
  context = { history: new History(), model: null };
  tabs.replaceChildren(...Object.entries(views).map(([name, v]) => h("a", { href: `#${name}`, id: `tab-${name}` }, v.title)));
  tabs.hidden = who.hidden = false;
  await refresh();
  await go();
}

function login(problem) {
  clearTimeout(timer);
  context = null;
  tabs.hidden = who.hidden = true;
  const input = h("input", { type: "password", id: "token", autocomplete: "off", spellcheck: "false", required: true });
  const form = h("form", { class: "card signin" },
    h("h2", {}, "Sign in"),
    h("p", { class: "note" }, "A client certificate of this browser signs you in by itself. Without one, paste a bearer token: it stays in the memory of this page and is gone when you leave it."),
    problem ? h("p", { class: "bad", role: "alert" }, problem) : "",
    h("label", { for: "token" }, "Bearer token"), input,
    h("button", { class: "main", type: "submit" }, "Sign in"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    signIn(input.value);
    input.value = "";
    try {
      await whoami();
    } catch (error) {
      signOut();
      return login(error.status === 401 ? "This token is not known here." : error.message);
    }
    await start();
  });
  view.replaceChildren(form);
  input.focus();
}

// Reads everything again; what is open, where the focus is and what is typed stays.
async function refresh() {
  clearTimeout(timer);
  if (!context) return;
  const mine = context;
  try {
    const [model] = await Promise.all([load(), mine.history.read().catch((error) => {
      if (error.status === 401) throw error;
      mine.unreadable = error;
    })]);
    mine.model = model;
    mine.lost = null;
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return login("You are no longer signed in.");
    mine.lost = error;
  }
  timer = setTimeout(async () => {
    if (!document.hidden) {
      await refresh();
      if (context && isLive() && !busy()) await go(true);
    } else timer = setTimeout(refresh, PERIOD);
  }, PERIOD);
}

const parts = () => {
  const [name, ...rest] = decodeURIComponent(location.hash.slice(1)).split("/");
  return [views[name] ? name : "groups", rest.join("/")];
};
const isLive = () => parts()[0] !== "openapi";
const busy = () => view.contains(document.activeElement) && document.activeElement !== view || view.querySelector("details[open]");

async function go(again) {
  if (!context) return;
  const [name, wanted] = parts();
  for (const tab of tabs.children) {
    if (tab.id === `tab-${name}`) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  if (!context.model) return view.replaceChildren(problem(context.lost));
  context.wanted = wanted;
  try {
    await views[name].show(view, context);
  } catch (error) {
    view.replaceChildren(problem(error));
  }
  const refused = [...context.model.problems, context.lost, context.unreadable].filter(Boolean);
  view.prepend(...refused.map(problem));
  if (!again) {
    document.title = `${views[name].title} · fairlead`;
    live.textContent = `${views[name].title} shown`;
    view.focus();
  }
}

const problem = (error) => h("div", { class: "card problem", role: "alert" },
  h("strong", {}, error?.status === 403 ? "You may not read this: " : "Not readable: "), error?.message ?? "no answer");

document.getElementById("leave").addEventListener("click", () => { signOut(); login(); });
addEventListener("hashchange", () => go());
start();
