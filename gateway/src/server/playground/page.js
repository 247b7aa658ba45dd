/* The page. Whatever came over the wire is shown as text nodes only. */

const KEPT = { log: 500, frames: 300 };
const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
const stateIs = (...states) => states.includes(page.state.dataset.state);
const typed = (field) => field.value.trim();
const pick = (words) => words[Math.floor(Math.random() * words.length)];
let apiKey = "…";
// Every reconnect makes another client of this window.
const ownClients = new Set();
let wanted = { user: "", channel: "" };
// The note in the log from which on it is live. What was before goes before it.
let liveFrom = null;
let ticking = 0;
let isJoined = false;
// From the loss of the line until it is joined again.
let isAway = false;

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text ?? "";
  return made;
}

/** Changes a list and keeps its end in view if it was. */
function keepingPlace(list, change) {
  const following = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  change();
  if (following) list.scrollTop = list.scrollHeight;
}

function append(list, item, kept) {
  keepingPlace(list, () => {
    list.append(item);
    while (list.children.length > kept) list.firstChild.remove();
  });
}

const clock = () => element("time", "", new Date().toLocaleTimeString([], { hour12: false }));
const textOf = (data) => typeof data === "string" ? data : typeof data?.text === "string" ? data.text : JSON.stringify(data);
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const toLog = (item) => append(page.log, item, KEPT.log);
const rule = (text, kind = "") => element("div", `note rule ${kind}`, text);
const problem = (text) => toLog(element("div", "note bad", text));

/** A publication: `live`, `earlier` than one joined, or `recovered` after a loss of the line. */
function entry({ data, info, offset }, kind) {
  const sameUser = info && info.user === wanted.user;
  const mine = sameUser && (ownClients.has(info.client) || kind === "earlier");
  const elsewhere = sameUser && !mine ? " (another window)" : "";
  const item = element("div", ["entry", !info && "server", mine && "mine", kind !== "live" && kind].filter(Boolean).join(" "));
  const head = element("div", "head");
  head.append(element("span", "from", info ? nameOf(info) + elsewhere : "server API"), kind === "live" ? clock() : element("span", "mark", kind));
  if (offset) head.append(element("span", "offset", `#${offset}`));
  item.append(head, element("div", "text", textOf(data)));
  return item;
}

// In a group of their own, which is not read out: they are no news.
function showEarlier(publications) {
  if (publications.length === 0) return;
  const group = element("div", "earlier");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Earlier messages");
  group.setAttribute("aria-live", "off");
  group.append(rule(counted(publications.length, "earlier message")), ...publications.map((publication) => entry(publication, "earlier")));
  keepingPlace(page.log, () => liveFrom.before(group));
}

function showPerson({ user, name, connections }) {
  const item = element("li", user === wanted.user ? "person you" : "person");
  const label = element("span", "name", name);
  label.title = name;
  item.append(label);
  if (user === wanted.user) item.append(element("span", "muted", "you"));
  if (connections > 1) {
    const count = element("span", "count", `×${connections}`);
    count.setAttribute("aria-hidden", "true");
    item.append(count, element("span", "spoken", `${connections} connections`));
  }
  return item;
}

function showRoster(people) {
  const isYou = ({ user }) => user === wanted.user;
  const youFirst = [...people.filter(isYou), ...people.filter((person) => !isYou(person))];
  page.roster.replaceChildren(...youFirst.map(showPerson));
  page.present.textContent = people.length;
  page.people.classList.remove("stale");
}

function showFrame(kind, text) {
  const way = { sent: ["→", "sent"], received: ["←", "received"], event: ["·", "socket"] }[kind];
  const item = element("li", `frame ${kind}`);
  const arrow = element("span", "way", way[0]);
  arrow.setAttribute("aria-hidden", "true");
  const code = element("code", "", text.replace(/eyJ[\w-]+\.[\w-]+\.[\w-]*/g, "eyJ…"));
  code.prepend(element("span", "spoken", `${way[1]}: `));
  item.append(arrow, code, clock());
  append(page.frames, item, KEPT.frames);
}

function showState(state, text, { client = "", until = 0 } = {}) {
  if (client) ownClients.add(client);
  page.state.dataset.state = state;
  page.state.textContent = text;
  page.client.textContent = client && `client ${client}`;
  if (state === "closed") forgetPeople();
  labelConnect();
  labelLine();
  labelCompose();
  countDown(until);
  if (state === "open") showGateway();
}

// Beside the state and not in it, so that nobody has every second of it read out.
function countDown(until) {
  clearInterval(ticking);
  const tick = () => { page.countdown.textContent = `again in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s`; };
  page.countdown.textContent = "";
  if (!until) return;
  tick();
  ticking = setInterval(tick, 200);
}

// On every connect: a gateway that was restarted in development mode has another key.
async function showGateway() {
  try {
    const info = await fetchJson("/dev/info");
    apiKey = info.api_key;
    page.version.textContent = info.version;
    showCurl();
  } catch {
    problem("The gateway did not tell its API key");
  }
}

// One button: leave while connected, and connect under the new name once the name was edited.
function labelConnect() {
  const same = typed(page.user) === wanted.user;
  page.connect.textContent = stateIs("closed") ? "Connect" : same ? "Disconnect" : "Reconnect";
}

// Never disabled, which would take the focus from it while one waits.
function labelLine() {
  page.line.textContent = stateIs("waiting") ? "Reconnect now" : "Cut the line";
  page.line.setAttribute("aria-disabled", !stateIs("open", "waiting"));
}

// While the line is down, what is said goes to the server API, as from a back end.
function labelCompose() {
  if (stateIs("waiting")) isAway = true;
  else if (isJoined || stateIs("closed")) isAway = false;
  page.send.disabled = !isJoined && !isAway;
  page.message.placeholder = isAway ? "Through the server API" : "Say something";
}

function showJoined(channel, { asked, recovered, count }) {
  isJoined = true;
  page.joined.textContent = `in ${channel}`;
  labelCompose();
  if (asked && !recovered) toLog(rule("Too much was missed: not recovered", "bad"));
  if (recovered) toLog(rule(count ? `${counted(count, "missed message")} recovered` : "Back, nothing was missed", "good"));
  else toLog(liveFrom = rule(asked ? `Live again in ${channel}` : `You joined ${channel}`));
}

function showLeft() {
  if (!isJoined) return;
  isJoined = false;
  toLog(rule("Not connected"));
  page.joined.textContent = "";
  page.people.classList.add("stale");
  page.present.append(element("span", "spoken", " when the line was lost"));
  labelCompose();
}

function forgetPeople() {
  page.roster.replaceChildren();
  page.present.textContent = "";
}

function showCurl() {
  const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  const body = JSON.stringify({ channel: typed(page.channel), data: { text: "hello" } });
  page.curl.textContent = `curl -X POST ${location.origin}/api/publish -H ${quote(`X-API-Key: ${apiKey}`)} -d ${quote(body)}`;
  page.another.hash = new URLSearchParams({ channel: typed(page.channel) });
}

function showFrames(shown) {
  page.wire.hidden = !shown;
  page.panes.classList.toggle("wide", shown);
  page.toggle.setAttribute("aria-expanded", shown);
  page.toggle.textContent = shown ? "Hide frames" : "Show frames";
  page.frames.scrollTop = page.frames.scrollHeight;
}

async function fetchJson(path) {
  const response = await fetch(path, { cache: "no-store" });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

async function publishByApi(data) {
  const request = {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-API-Key": apiKey },
    body: JSON.stringify({ channel: wanted.channel, data }),
  };
  try {
    const { error } = await (await fetch("/api/publish", request)).json();
    if (error) problem(`Not published: ${described(error)}`);
  } catch {
    problem("Not published: the gateway does not answer");
  }
}

const client = new Client({
  state: showState,
  joined: showJoined,
  left: showLeft,
  roster: showRoster,
  earlier: showEarlier,
  publication: (publication, kind) => toLog(entry(publication, kind)),
  frame: showFrame,
  problem,
  token: async (user) => (await fetchJson(`/dev/token?user=${encodeURIComponent(user)}`)).token,
});

function connect(user, channel) {
  if (!user || !channel) return;
  wanted = { user, channel };
  isJoined = false;
  history.replaceState(null, "", `#${new URLSearchParams(wanted)}`);
  document.title = `${user} · Clarion playground`;
  page.log.replaceChildren();
  showCurl();
  client.connect(user, channel);
}

function readHash() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const name = () => `${pick(["calm", "brisk", "kind", "bold", "quiet", "merry", "keen", "amber"])}-${pick(["otter", "heron", "lynx", "finch", "badger", "hare", "owl", "seal"])}-${10 + Math.floor(Math.random() * 90)}`;
  page.user.value = hash.get("user") || name();
  page.channel.value = hash.get("channel") || "chat";
}

const start = () => connect(typed(page.user), typed(page.channel));

page.identity.addEventListener("submit", (event) => {
  event.preventDefault();
  if (stateIs("closed") || typed(page.user) !== wanted.user) connect(typed(page.user), typed(page.channel));
  else client.close();
});
page.place.addEventListener("submit", (event) => {
  event.preventDefault();
  connect(stateIs("closed") ? typed(page.user) : wanted.user, typed(page.channel));
});
page.compose.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = typed(page.message);
  if (!text || page.send.disabled) return;
  if (isJoined) client.publish({ text });
  else publishByApi({ text });
  page.message.value = "";
});
page.line.addEventListener("click", () => {
  if (stateIs("open")) client.cut();
  else if (stateIs("waiting")) client.hurry();
});
page.user.addEventListener("input", labelConnect);
page.channel.addEventListener("input", showCurl);
page.toggle.addEventListener("click", () => showFrames(page.wire.hidden));
page.copy.addEventListener("click", async () => {
  await navigator.clipboard.writeText(page.curl.textContent);
  page.copy.textContent = "Copied";
  setTimeout(() => { page.copy.textContent = "Copy"; }, 1500);
});
window.addEventListener("hashchange", () => { readHash(); start(); });

showFrames(matchMedia("(min-width: 56rem)").matches);
readHash();
start();
