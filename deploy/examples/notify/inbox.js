"use strict";
// The page of one user: a bare WebSocket, and what it brings. Whatever was sent is shown as text nodes only.

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
let user = null;
// Where this page is in the history of its channel. It outlives the sockets.
let position = null;
// Data by offset, in the order of arrival.
const notifications = new Map();
let attempt = 0;

// What was read is remembered by the browser; a history that began anew has nothing read in it.
const readUpTo = () => {
  const { epoch, offset } = JSON.parse(localStorage.getItem(`read ${user.id}`) ?? "{}");
  return position && epoch === position.epoch ? offset : 0;
};

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function card([offset, { title, text, at }]) {
  const item = element("li", offset > readUpTo() ? "unread" : "");
  const head = element("div", "head");
  const date = new Date(at);
  const time = element("time", "muted", date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  time.dateTime = date.toISOString();
  head.append(element("h2", "", title), time);
  item.append(head, element("p", "", text));
  return item;
}

function show() {
  const newestFirst = [...notifications].sort(([one], [other]) => other - one);
  const unread = newestFirst.filter(([offset]) => offset > readUpTo()).length;
  page.list.replaceChildren(...newestFirst.map(card));
  page.empty.hidden = newestFirst.length > 0;
  page.unread.textContent = unread || "";
  page.read.disabled = unread === 0;
  document.title = unread ? `(${unread}) Notifications` : "Notifications";
}

function state(name) {
  page.state.textContent = name;
  page.state.dataset.state = name;
}

function take({ data, offset }) {
  position.offset = Math.max(position.offset, offset);
  notifications.set(offset, data);
}

/** What came over the socket: its beginning, a notification, or the answer to the question for the history. */
function receive(socket, channel, { push, history }) {
  const subscription = push?.connect?.subs[channel];
  if (subscription) begin(socket, channel, subscription);
  if (push?.pub) take(push.pub);
  if (history) history.publications.forEach(take);
  // Something was missed that only a new connection can bring.
  if (push?.unsubscribe?.code === 2500) socket.close();
  show();
}

function begin(socket, channel, { epoch, offset = 0, recovered, publications = [] }) {
  attempt = 0;
  state("connected");
  position = { epoch, offset };
  publications.forEach(take);
  if (recovered) return;
  notifications.clear();
  socket.send(JSON.stringify({ id: 1, history: { channel, limit: 50, reverse: true } }));
}

/** Asks the back end where to connect, before every attempt, so that the token is always fresh. */
async function connect() {
  const answer = await fetch("/realtime").catch(() => null);
  if (answer?.status === 401) return location.reload(); // To sign in again.
  if (!answer?.ok) return again();
  const { url, channel } = await answer.json();
  const address = new URL(url);
  if (position) address.searchParams.append("since", `${channel}@${position.epoch}:${position.offset}`);
  const socket = new WebSocket(address);
  socket.onmessage = ({ data }) => receive(socket, channel, JSON.parse(data));
  socket.onclose = ({ code }) => (isFinal(code) ? state("disconnected") : again());
}

const isFinal = (code) => (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000) || code === 1009;

/** At random, or everybody comes back in one moment. */
function again() {
  state("connecting");
  setTimeout(connect, Math.random() * Math.min(20_000, 500 * 2 ** attempt++));
}

function start(found) {
  user = found;
  page.who.textContent = user.name;
  page.signin.hidden = true;
  page.inbox.hidden = false;
  connect();
}

function welcome() {
  page.signin.hidden = false;
  page.name.focus();
}

page.read.onclick = () => {
  localStorage.setItem(`read ${user.id}`, JSON.stringify(position));
  show();
};

// Another window of the same browser has read them.
window.onstorage = () => user && show();

page.signin.onsubmit = async (event) => {
  event.preventDefault();
  const body = JSON.stringify({ name: page.name.value });
  const response = await fetch("/login", { method: "POST", body }).catch(() => null);
  const answer = response ? await response.json() : { error: "The server cannot be reached." };
  if (answer.error) page.refused.textContent = answer.error;
  else start(answer);
};

fetch("/me").then((response) => response.json()).then((found) => (found.id ? start(found) : welcome()), welcome);
