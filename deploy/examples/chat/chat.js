"use strict";
// The page of the chat. What people wrote is shown as text nodes only.

const EARLIER = 50; // Messages that are shown of what was said before.
const SHOWN_MAX = 500;
const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
const rooms = new Map();
let me = "";
let client = null;
let current = null;

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function face(name) {
  const made = element("span", "face", [...name][0]);
  const hue = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
  made.style.setProperty("--hue", hue);
  made.ariaHidden = true;
  return made;
}

function person(name, tag) {
  const made = element(tag, "person");
  const who = element("span", "who", name);
  who.title = name;
  made.append(face(name), who, ...(name === me && tag === "li" ? [element("span", "muted", "you")] : []));
  return made;
}

/** Asks the back end; what it refuses is an error whose message is for the person. */
async function ask(path, body) {
  const request = body && { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const response = await fetch(path, request).catch(() => { throw new Error("The chat cannot be reached."); });
  const answer = await response.json();
  if (response.ok) return answer;
  throw Object.assign(new Error(answer.error), { status: response.status });
}

/** One room: its log, who is in it, and the subscription that keeps both up to date. */
class Room {
  log = [];               // Elements, oldest first.
  shown = new Set();      // Offsets of what is in the log.
  people = new Map();     // User by client: somebody may be here twice.
  unread = 0;
  changes = null;         // Of the people, while they are asked for.
  recovered = null;       // The line above what was missed, while it comes in.

  constructor(name) {
    this.name = name;
    this.tab = element("button", "");
    this.tab.append(element("span", "name", name), element("span", "unread"));
    this.tab.onclick = () => open(this);
    page.rooms.append(this.tab);
    this.subscription = client.newSubscription(`room:${name}`);
    this.subscription.on("subscribed", (context) => this.joined(context));
    this.subscription.on("publication", (publication) => this.said(publication));
    this.subscription.on("join", ({ info }) => this.change(() => this.came(info)));
    this.subscription.on("leave", ({ info }) => this.change(() => this.left(info)));
    this.subscription.subscribe();
  }

  joined({ wasRecovering, recovered }) {
    this.meet();
    if (wasRecovering && recovered) return this.catchUp();
    if (wasRecovering) this.clear();
    this.remember(wasRecovering ? "Too much was missed: this is what was said last" : "");
  }

  /** The SDK brings what was missed in this very turn, after `subscribed`: what comes later is news. */
  catchUp() {
    const before = this.log.length;
    this.recovered = element("p", "note rule good");
    this.add(this.recovered);
    queueMicrotask(() => {
      const missed = this.log.length - before - 1;
      this.recovered.textContent = missed === 0 ? "Back, nothing was missed" : `${missed} missed message${missed === 1 ? "" : "s"} recovered`;
      this.recovered = null;
      show();
    });
  }

  /** Puts what was said before above what is said since. */
  async remember(note) {
    const { publications } = await this.subscription.history({ limit: EARLIER, reverse: true }).catch(() => ({ publications: [] }));
    const earlier = publications.reverse().filter(({ offset }) => !this.shown.has(offset));
    const elements = earlier.map((publication) => this.message(publication));
    if (note) elements.push(element("p", "note rule", note));
    this.log.unshift(...elements);
    show();
  }

  clear() {
    this.log = [];
    this.shown.clear();
  }

  said(publication) {
    if (this.shown.has(publication.offset)) return;
    this.add(this.message(publication));
    if (this !== current || document.hidden) this.unread += 1;
    show();
  }

  message({ data, offset }) {
    this.shown.add(offset);
    const made = element("article", ["message", data.from === me && "mine", this.recovered && "recovered"].filter(Boolean).join(" "));
    made.dataset.from = data.from;
    const head = element("div", "head");
    const at = new Date(data.at);
    const time = element("time", "", at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
    time.dateTime = at.toISOString();
    head.append(element("span", "from", data.from), time);
    made.append(face(data.from), head, element("div", "text", data.text));
    return made;
  }

  add(item) {
    this.log.push(item);
    if (this.log.length > SHOWN_MAX) this.log.shift();
  }

  /** Asks who is here. Who comes and goes meanwhile is added to the answer. */
  async meet() {
    const changes = this.changes = [];
    const answer = await this.subscription.presence().catch(() => null);
    if (this.changes !== changes) return; // Asked anew since.
    this.changes = null;
    if (answer) this.people = new Map(Object.values(answer.clients).map(({ client, user }) => [client, user]));
    changes.forEach((change) => change());
    show();
  }

  change(apply) {
    if (this.changes) return this.changes.push(apply);
    apply();
    show();
  }

  came({ client, user }) {
    const isNew = !this.names().includes(user);
    this.people.set(client, user);
    if (isNew && user !== me) this.add(element("p", "note", `${user} is here`));
  }

  /** Who lost the line and came back is another client, of whom nobody was told. */
  left({ client, user }) {
    if (!this.people.delete(client)) return this.meet();
    if (!this.names().includes(user) && user !== me) this.add(element("p", "note", `${user} has left`));
  }

  names() {
    return [...new Set(this.people.values())].sort((one, other) => (other === me) - (one === me) || one.localeCompare(other));
  }
}

/** Draws what may have changed. The log stays where it is, unless its end was in view. */
function show() {
  for (const room of rooms.values()) {
    room.tab.ariaCurrent = room === current;
    room.tab.lastChild.textContent = room.unread || "";
  }
  const { scrollHeight, scrollTop, clientHeight } = page.log;
  const isAtEnd = scrollHeight - scrollTop - clientHeight < 40;
  let previous = "";
  for (const item of current.log) {
    item.classList.toggle("more", item.dataset.from !== undefined && item.dataset.from === previous);
    previous = item.dataset.from;
  }
  page.log.replaceChildren(...current.log);
  if (isAtEnd) page.log.scrollTop = page.log.scrollHeight;
  else page.log.scrollTop = scrollTop;
  const names = current.names();
  page.count.textContent = names.length;
  page.people.replaceChildren(...names.map((name) => person(name, "li")));
  const unread = [...rooms.values()].reduce((sum, room) => sum + room.unread, 0);
  document.title = unread ? `(${unread}) Chat` : "Chat";
}

function open(room) {
  current = room;
  room.unread = 0;
  page.room.textContent = room.name;
  page.text.placeholder = `Say something in ${room.name}`;
  page.log.replaceChildren();
  show();
}

function start({ user, rooms: names, gateway }) {
  me = user;
  page.me.replaceWith(page.me = Object.assign(person(me, "div"), { id: "me" }));
  client = new Centrifuge(`${gateway}/connection/websocket`, { getToken });
  client.on("state", ({ newState }) => {
    page.state.textContent = { connecting: "connecting…", disconnected: "offline" }[newState] ?? newState;
    page.chat.dataset.state = page.state.dataset.state = newState;
    page.line.textContent = newState === "disconnected" ? "Come back" : "Go offline";
  });
  for (const name of names) rooms.set(name, new Room(name));
  page.signin.hidden = true;
  page.chat.hidden = false;
  open(rooms.get(names[0]));
  client.connect();
  page.text.focus();
}

/** The SDK asks before every attempt, and before a token ends. */
async function getToken() {
  try {
    return (await ask("/token")).token;
  } catch (error) {
    // Signed out meanwhile: no use to try again.
    if (error.status === 401) throw new Centrifuge.UnauthorizedError(error.message);
    throw error;
  }
}

page.line.onclick = () => (client.state === "disconnected" ? client.connect() : client.disconnect());

document.onvisibilitychange = () => {
  if (document.hidden || !current) return;
  current.unread = 0;
  show();
};

// One after another: two requests at a time may change places.
let sending = Promise.resolve();

page.write.onsubmit = (event) => {
  event.preventDefault();
  const [room, text] = [current.name, page.text.value];
  page.text.value = "";
  sending = sending.then(() => send(room, text));
};

async function send(room, text) {
  try {
    await ask("/say", { room, text });
    page.problem.textContent = "";
  } catch (error) {
    page.problem.textContent = error.message;
    page.text.value ||= text; // To be sent again.
  }
}

page.signin.onsubmit = async (event) => {
  event.preventDefault();
  try {
    start(await ask("/login", { name: page.name.value }));
  } catch (error) {
    page.refused.textContent = error.message;
  }
};

function welcome() {
  page.signin.hidden = false;
  page.name.focus();
}

ask("/me").then((answer) => (answer.user ? start(answer) : welcome()), welcome);
