// Requests as the user who signed in. A token lives in this module's memory and nowhere else: it is gone with the page.

let token = "";

export const signIn = (given) => { token = given.trim(); };
export const signOut = () => { token = ""; };

// An answer that is no success.
export class Refused extends Error {
  constructor(path, status, message) {
    super(message || `${path} answered ${status}`);
    this.path = path;
    this.status = status;
  }
}

async function ask(path, accept, init = {}) {
  const headers = { Accept: accept, ...init.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  // No cookies, and nobody is followed elsewhere with a token.
  const answer = await fetch(path, { ...init, headers, credentials: "same-origin", redirect: "error", cache: "no-store" });
  if (!answer.ok) {
    const said = await answer.text();
    let message = said.slice(0, 300);
    try { message = JSON.parse(said).message ?? message; } catch { /* plain text */ }
    throw new Refused(path, answer.status, message);
  }
  return answer;
}

export const json = async (path, accept = "application/json") => (await ask(path, accept)).json();
export const text = async (path) => (await ask(path, "text/plain")).text();

// Who the server takes us for.
export async function whoami() {
  const review = await ask("/apis/authentication.k8s.io/v1/selfsubjectreviews", "application/json", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" }),
  });
  return (await review.json()).status.userInfo.username;
}

// Several at once: what is refused is told beside what is not.
export async function all(wanted) {
  const names = Object.keys(wanted);
  const settled = await Promise.allSettled(names.map((n) => wanted[n]));
  const values = {}, problems = [];
  settled.forEach((one, i) => {
    if (one.status === "fulfilled") values[names[i]] = one.value;
    else if (one.reason instanceof Refused && one.reason.status === 401) throw one.reason;
    else problems.push(one.reason);
  });
  return { values, problems };
}
