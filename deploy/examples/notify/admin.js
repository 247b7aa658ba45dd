"use strict";
// The page of the admin: to whom, what, send.

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));

/** Asks the back end; what it refuses is an error whose message is for the person. */
async function ask(path, body) {
  const response = await fetch(path, body && { method: "POST", body: JSON.stringify(body) })
    .catch(() => { throw new Error("The server cannot be reached."); });
  const answer = await response.json();
  if (response.ok) return answer;
  throw new Error(answer.error);
}

function outcome(text, kind) {
  page.outcome.textContent = text;
  page.outcome.className = kind;
}

async function load() {
  const { isAdmin, users } = await ask("/admin/users");
  page.signin.hidden = isAdmin;
  page.send.hidden = !isAdmin;
  if (!isAdmin) return page.password.focus();
  const chosen = page.user.value;
  page.user.replaceChildren(...users.map(({ id, name }) => new Option(name, id, false, id === chosen)));
  if (users.length === 0) outcome("Nobody has signed in yet.", "muted");
}

page.again.onclick = () => load().then(() => outcome("", ""), ({ message }) => outcome(message, "bad"));

page.signin.onsubmit = async (event) => {
  event.preventDefault();
  try {
    await ask("/admin/login", { password: page.password.value });
    await load();
  } catch (error) {
    page.refused.textContent = error.message;
  }
};

page.send.onsubmit = async (event) => {
  event.preventDefault();
  try {
    const { name } = await ask("/admin/notify", { user: page.user.value, title: page.title.value, text: page.text.value });
    outcome(`Sent to ${name}.`, "good");
    page.title.value = page.text.value = "";
    page.title.focus();
  } catch (error) {
    outcome(error.message, "bad");
  }
};

load();
