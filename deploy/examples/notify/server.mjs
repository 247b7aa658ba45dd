// The back end of the notifications: it signs people in, tells their pages where to connect, and publishes what the
// admin sends to one of them.

import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { SignJWT } from "jose";

const BODY_BYTES_MAX = 16_384;
const SESSIONS_MAX = 10_000;

/** The variable of the environment, or the end: a default would be a secret that everybody knows. */
function required(name, what) {
  const value = process.env[name];
  if (value) return value;
  console.error(`server.mjs: ${name} is not set: ${what}`);
  process.exit(1);
}

const tokenSecret = new TextEncoder().encode(required("TOKEN_SECRET", "the secret that signs tokens, the gateway's client.token.hmac_secret_key"));
const apiKey = required("API_KEY", "the key for publishing, one of the gateway's api.keys");
const adminPassword = required("ADMIN_PASSWORD", "what opens the page of the admin");
const { API_URL = "http://127.0.0.1:9000", GATEWAY_URL = "ws://127.0.0.1:8000", PORT = "8080" } = process.env;

const FILES = {
  "/": ["index.html", "text/html; charset=utf-8"],
  "/inbox.js": ["inbox.js", "text/javascript"],
  "/admin": ["admin.html", "text/html; charset=utf-8"],
  "/admin.js": ["admin.js", "text/javascript"],
  "/style.css": ["style.css", "text/css"],
};
const POLICY = `default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' ${GATEWAY_URL}; `
  + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** Ends a request with `status` and a sentence for the person. */
class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

// Who is signed in, by the value of the cookie: `{id, name}`, `{isAdmin}` or both. A real back end has a database.
const sessions = new Map();

function openSession(session) {
  const cookie = randomBytes(32).toString("base64url");
  sessions.set(cookie, session);
  if (sessions.size > SESSIONS_MAX) sessions.delete(sessions.keys().next().value); // The oldest.
  return cookie;
}

function sessionOf(request) {
  const [, cookie] = /(?:^|; )session=([\w-]+)/.exec(request.headers.cookie ?? "") ?? [];
  return sessions.get(cookie) ?? {};
}

function userOf(request) {
  const session = sessionOf(request);
  if (session.id) return session;
  throw new Refused(401, "Please sign in.");
}

function requireAdmin(request) {
  if (!sessionOf(request).isAdmin) throw new Refused(401, "Please sign in as the admin.");
}

/** Everybody who has signed in, once each. */
const users = () => [...new Map([...sessions.values()].filter(({ id }) => id).map(({ id, name }) => [id, { id, name }])).values()];

const digest = (text) => createHash("sha256").update(text).digest();
const inbox = (user) => `inbox:#${user.id}`;

function text(body, field, longest) {
  const value = typeof body[field] === "string" ? body[field].trim() : "";
  if (value.length < 1 || value.length > longest) throw new Refused(400, `${field}: 1 to ${longest} characters, please.`);
  return value;
}

/** Publishes by the server API of the gateway. Its errors come with status 200. */
async function publish(channel, data) {
  const reply = await fetch(`${API_URL}/api/publish`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-API-Key": apiKey },
    body: JSON.stringify({ channel, data }),
    signal: AbortSignal.timeout(5000),
  }).then((response) => response.json()).catch((error) => ({ error }));
  if (!reply.error) return;
  console.error(`server.mjs: not published: ${reply.error.message}`);
  throw new Refused(502, "That was not sent. Please try again.");
}

const ROUTES = {
  /** Believes the name: put your own login here. The id is what your database calls the user; a channel has no room for any name. */
  async "POST /login"(request, body) {
    const name = text(body, "name", 40);
    const user = { id: digest(name).toString("hex").slice(0, 16), name };
    return [user, openSession({ ...sessionOf(request), ...user })];
  },

  async "GET /me"(request) {
    const { id, name } = sessionOf(request);
    return [{ id, name }];
  },

  /** Where the page connects to, with a fresh token every time. */
  async "GET /realtime"(request) {
    const user = userOf(request);
    const token = await new SignJWT({ sub: user.id }).setProtectedHeader({ alg: "HS256" }).setExpirationTime("10m").sign(tokenSecret);
    return [{ channel: inbox(user), url: `${GATEWAY_URL}/ws?${new URLSearchParams({ token, channel: inbox(user) })}` }];
  },

  async "POST /admin/login"(request, body) {
    if (!timingSafeEqual(digest(text(body, "password", 200)), digest(adminPassword))) throw new Refused(403, "That is not the password.");
    return [{}, openSession({ ...sessionOf(request), isAdmin: true })];
  },

  async "GET /admin/users"(request) {
    const isAdmin = sessionOf(request).isAdmin === true;
    return [{ isAdmin, users: isAdmin ? users() : [] }];
  },

  async "POST /admin/notify"(request, body) {
    requireAdmin(request);
    const user = users().find(({ id }) => id === body.user);
    if (!user) throw new Refused(404, "There is no such user.");
    await publish(inbox(user), { title: text(body, "title", 80), text: text(body, "text", 500), at: Date.now() });
    return [{ name: user.name }];
  },
};

async function bodyOf(request) {
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) {
    text += chunk;
    if (text.length > BODY_BYTES_MAX) throw new Refused(413, "That is too long.");
  }
  try {
    return Object(JSON.parse(text));
  } catch {
    throw new Refused(400, "A JSON object, please.");
  }
}

async function answer(request) {
  const path = new URL(request.url, "http://page").pathname;
  if (request.method === "GET" && FILES[path]) {
    const [name, type] = FILES[path];
    return { type, content: await readFile(new URL(name, import.meta.url)), headers: { "Content-Security-Policy": POLICY } };
  }
  const route = ROUTES[`${request.method} ${path}`];
  if (!route) throw new Refused(404, "There is nothing here.");
  const [value, cookie] = await route(request, request.method === "POST" ? await bodyOf(request) : {});
  // Not for scripts, and not sent by the pages of others.
  const headers = cookie ? { "Set-Cookie": `session=${cookie}; HttpOnly; SameSite=Strict; Path=/` } : {};
  return { type: "application/json", content: JSON.stringify(value), headers: { ...headers, "Cache-Control": "no-store" } };
}

const server = createServer(async (request, response) => {
  try {
    const { type, content, headers } = await answer(request);
    response.writeHead(200, { ...headers, "Content-Type": type }).end(content);
  } catch (error) {
    const isRefused = error instanceof Refused;
    if (!isRefused) console.error(error);
    const sentence = isRefused ? error.message : "That did not work. Please try again.";
    response.writeHead(isRefused ? error.status : 500, { "Content-Type": "application/json" }).end(JSON.stringify({ error: sentence }));
  }
});
server.listen(Number(PORT), "127.0.0.1", () => {
  const { port } = server.address();
  console.log(`Notifications are at http://127.0.0.1:${port}/ and sent from http://127.0.0.1:${port}/admin`);
});
