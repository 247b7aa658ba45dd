/* The client: one channel over a plain WebSocket in the bare form, where the address says everything and the gateway
   speaks first. It knows nothing of the page; `on` hears what happens. Every attempt fetches a new token, as the
   gateway closes with 3005 when one has expired. */

const BACKOFF_MS = { base: 500, max: 20000 };
const CUT_MS = 10000;
const HISTORY_LIMIT = 50;
// Mirrors the protocol's ranges: 3500-3999 and 4500-4999 mean "do not come back", and so does 1009, message too big.
const isTerminal = (code) => (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000) || code === 1009;
const described = ({ code, message }) => `${message} (${code})`;

/** Who is in a channel, connection by connection: the presence when one joined, then who joins and leaves. */
class Roster {
  #here = new Map();
  #gone = new Set();
  isComplete = false;

  // Whoever left while the answer was under way may still be in it.
  fill(presence) {
    for (const info of Object.values(presence)) {
      if (!this.#gone.has(info.client)) this.#here.set(info.client, info);
    }
    this.isComplete = true;
    this.#gone.clear();
  }

  join(info) {
    this.#gone.delete(info.client);
    this.#here.set(info.client, info);
  }

  has(info) { return this.#here.has(info.client); }

  leave(info) {
    this.#here.delete(info.client);
    if (!this.isComplete) this.#gone.add(info.client);
  }

  /** Each user once, by name, with the number of connections. */
  people() {
    const byUser = new Map();
    for (const info of this.#here.values()) {
      const person = byUser.get(info.user) ?? { user: info.user, name: nameOf(info), connections: 0 };
      person.connections++;
      byUser.set(info.user, person);
    }
    return [...byUser.values()].sort((one, other) => one.name.localeCompare(other.name));
  }
}

const nameOf = (info) => typeof info.conn_info?.name === "string" ? info.conn_info.name : info.user || "anonymous";

class Client {
  #on; #user; #channel; #socket; #timer;
  // Where it is in the history of the channel. It outlives the sockets.
  #position = null;
  #roster = new Roster();
  #attempts = 0;
  #turn = 0;
  #lastId = 0;
  #replies = new Map();

  constructor(on) { this.#on = on; }

  connect(user, channel) {
    this.close();
    this.#user = user;
    this.#channel = channel;
    this.#position = null;
    this.#attempts = 0;
    this.#open();
  }

  close() {
    clearTimeout(this.#timer);
    this.#drop("closed here");
    this.#on.state("closed", "closed");
  }

  /** Loses the socket as if the network had gone, and comes back after a while. */
  cut() {
    this.#drop("line cut");
    this.#waitFor(CUT_MS, "line cut");
  }

  /** Comes back at once instead of waiting for the next attempt. */
  hurry() {
    clearTimeout(this.#timer);
    this.#open();
  }

  publish(data) {
    this.#command({ publish: { channel: this.#channel, data } }, ({ error }) => {
      if (error) this.#on.problem(`Not published: ${described(error)}`);
    });
  }

  async #open() {
    this.#on.state("connecting", "connecting");
    const turn = ++this.#turn;
    let token;
    try {
      token = await this.#on.token(this.#user);
    } catch {
      if (turn === this.#turn) this.#retry("the gateway does not answer");
      return;
    }
    if (turn === this.#turn) this.#dial(this.#address(token));
  }

  #address(token) {
    const url = new URL("/ws", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.search = new URLSearchParams({ token, channel: this.#channel, join_leave: 1 });
    if (this.#position) {
      const { epoch, offset } = this.#position;
      url.searchParams.set("since", `${this.#channel}@${epoch}:${offset}`);
    }
    return url;
  }

  #dial(url) {
    const socket = this.#socket = new WebSocket(url);
    this.#on.frame("event", `open ${url}`);
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => this.#closed(socket, code, reason);
  }

  #receive(frame) {
    this.#on.frame("received", frame);
    const message = JSON.parse(frame);
    if (message.push) return this.#push(message.push);
    const onReply = this.#replies.get(message.id);
    this.#replies.delete(message.id);
    onReply?.(message);
  }

  #push({ connect, channel, pub, join, leave, unsubscribe }) {
    if (connect) return this.#connected(connect);
    if (channel !== this.#channel) return;
    if (pub) this.#take(pub);
    if (join) this.#recount(() => this.#roster.join(join.info));
    if (leave) this.#left(leave.info);
    if (unsubscribe) this.#unsubscribed(unsubscribe);
  }

  #connected({ client, subs }) {
    this.#attempts = 0;
    this.#on.state("open", "open", { client });
    const subscription = subs[this.#channel];
    if (subscription.error) this.#on.problem(`Cannot join ${this.#channel}: ${described(subscription.error)}`);
    else this.#joined(subscription);
  }

  #joined({ epoch, offset = 0, was_recovering, recovered, publications = [] }) {
    const last = this.#position;
    this.#position = epoch ? { epoch, offset } : null;
    this.#on.joined(this.#channel, { asked: was_recovering, recovered, count: publications.length });
    for (const publication of publications) this.#take(publication, "recovered");
    // Of another epoch, the offsets say nothing about one another.
    if (epoch && !recovered) this.#fetchHistory(last?.epoch === epoch ? last.offset : 0, offset);
    this.#fetchRoster();
  }

  #take(publication, kind = "live") {
    if (this.#position && publication.offset) this.#position.offset = publication.offset;
    this.#on.publication(publication, kind);
  }

  // What is up to `first` has been shown; what is beyond `last` arrives by itself, even before the answer.
  #fetchHistory(first, last) {
    this.#command({ history: { channel: this.#channel, limit: HISTORY_LIMIT, reverse: true } }, ({ error, history }) => {
      if (error) return this.#on.problem(`No history: ${described(error)}`);
      const earlier = (history.publications ?? []).filter(({ offset }) => offset > first && offset <= last);
      this.#on.earlier(earlier.reverse());
    });
  }

  #fetchRoster() {
    const roster = this.#roster = new Roster();
    this.#command({ presence: { channel: this.#channel } }, ({ error, presence }) => {
      if (error) return this.#on.problem(`Nobody knows who is here: ${described(error)}`);
      this.#recount(() => roster.fill(presence.presence ?? {}));
    });
  }

  // Who came back in time on another connection did so unannounced: only now it is known under which id.
  #left(info) {
    const isKnown = !this.#roster.isComplete || this.#roster.has(info);
    this.#recount(() => this.#roster.leave(info));
    if (!isKnown) this.#fetchRoster();
  }

  #recount(change) {
    change();
    if (this.#roster.isComplete) this.#on.roster(this.#roster.people());
  }

  // Below 2500 the gateway means it; from there on one comes back and catches up.
  #unsubscribed({ code, reason }) {
    if (code >= 2500) {
      this.#drop(reason);
      this.#retry(`${code} ${reason}`);
    } else {
      this.#on.left();
      this.#on.problem(`Removed from ${this.#channel}: ${reason} (${code})`);
    }
  }

  #command(command, onReply) {
    const id = ++this.#lastId;
    this.#replies.set(id, onReply);
    const text = JSON.stringify({ id, ...command });
    this.#on.frame("sent", text);
    this.#socket.send(text);
  }

  #closed(socket, code, reason) {
    if (socket !== this.#socket) return;
    const why = reason ? `${code} ${reason}` : code === 1006 ? "connection lost" : `${code}`;
    this.#on.frame("event", `closed: ${why}`);
    this.#forget();
    if (isTerminal(code)) this.#on.state("closed", `closed: ${why}`);
    else this.#retry(why);
  }

  #drop(why) {
    const socket = this.#forget();
    if (!socket) return;
    this.#on.frame("event", `close: ${why}`);
    socket.close();
  }

  // The socket goes first, so that its own close event is nobody's any more.
  #forget() {
    const socket = this.#socket;
    this.#socket = null;
    this.#turn++;
    this.#replies.clear();
    this.#on.left();
    return socket;
  }

  // Full jitter over a doubling ceiling: after a restart the clients come back spread out.
  #retry(why) {
    const ceiling = Math.min(BACKOFF_MS.max, BACKOFF_MS.base * 2 ** this.#attempts++);
    this.#waitFor(Math.random() * ceiling, why);
  }

  #waitFor(waitMs, why) {
    this.#on.state("waiting", why, { until: Date.now() + waitMs });
    this.#timer = setTimeout(() => this.#open(), waitMs);
  }
}

