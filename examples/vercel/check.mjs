// Runs a built function as Vercel does, its proxy told where to report by VERCEL_IPC_PATH, and looks at what it answers and what it leaves
// in the database: node check.mjs <function directory> <psql>, with DATABASE_URL.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createHmac, randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync, readdirSync, rmSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const [directory, psql] = process.argv.slice(2);
const RUN = randomUUID();
const SECRET = randomUUID();
const ADMIN = randomUUID();
/** The connection string, with a name for the connections that the function makes. */
const named = (url) => (url.includes("://") ? `${url}${url.includes("?") ? "&" : "?"}` : `${url} `) + `application_name=${RUN}`;
const PATIENCE_MS = 20_000;
/** The proxy has no other, and reports it before it finds it taken. */
const PROXY_PORT = 3000;
const settings = {
  PATH: process.env.PATH,
  DATABASE_URL: named(process.env.DATABASE_URL),
  GITHUB_WEBHOOK_SECRET: SECRET,
  LOOP_ADMIN_SECRET: ADMIN,
  LOOP_LOG: "error",
};
const started = new Set();

const alive = (pid) => {
  try {
    // One that has ended and that nobody has waited for yet is a zombie.
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
};
const until = async (what, condition) => {
  const start = performance.now();
  while (!(await condition())) {
    assert(performance.now() - start < PATIENCE_MS, `waited too long until ${what}`);
    await sleep(1);
  }
};
/** Every thread of a process has children of its own. */
const children = (pid) =>
  readdirSync(`/proc/${pid}/task`).flatMap((thread) => readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number));
const signal = (pid, name) => alive(pid) && process.kill(pid, name);
process.on("exit", () => started.forEach((pid) => signal(pid, "SIGKILL")));

const listens = (port) =>
  new Promise((tried) => {
    const socket = net.connect(port, "127.0.0.1", () => {
      tried(true);
      socket.destroy();
    }).on("error", () => tried(false));
  });
const freePort = async () => {
  const listener = net.createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  await new Promise((closed) => listener.close(closed));
  return port;
};

/** An instance of the function: Vercel's proxy, and the server it starts. */
class Instance {
  ended = new Map();
  requests = 0;
  agent = new http.Agent({ keepAlive: true, maxSockets: 32 });

  static async start() {
    assert(!(await listens(PROXY_PORT)), `the proxy listens on port ${PROXY_PORT}, which something else has`);
    const instance = new Instance();
    const socket = join(tmpdir(), `loop-vercel-${randomUUID()}`);
    let report;
    const reported = new Promise((resolve) => (report = resolve));
    instance.ipc = net.createServer((peer) => {
      let text = "";
      peer.on("data", (data) => {
        const messages = (text + data).split("\0");
        text = messages.pop();
        for (const { type, payload } of messages.map((message) => JSON.parse(message))) {
          if (type === "server-started") report(payload);
          if (type === "end") instance.ended.set(Number(payload.context.requestId), payload);
        }
      });
    });
    await once(instance.ipc.listen(socket), "listening");
    instance.born = performance.now();
    instance.proxy = spawn(join(directory, "executable"), { cwd: directory, env: { ...settings, VERCEL_IPC_PATH: socket }, stdio: ["ignore", "inherit", "inherit"] });
    started.add(instance.proxy.pid);
    const late = sleep(PATIENCE_MS, undefined, { ref: false }).then(() => assert.fail("the function does not start"));
    const { httpPort, initDuration } = await Promise.race([reported, late]);
    rmSync(socket, { force: true });
    [instance.server] = children(instance.proxy.pid);
    assert(instance.server > 0, "the proxy has started the server");
    started.add(instance.server);
    assert.equal(httpPort, PROXY_PORT);
    await until("the proxy listens", () => listens(httpPort));
    return Object.assign(instance, { initDuration });
  }

  /** What is answered, or the status 0 when nothing is. */
  send(method, path, headers = {}, body = "") {
    const id = ++this.requests;
    const context = { "x-vercel-internal-invocation-id": RUN, "x-vercel-internal-request-id": String(id), "x-forwarded-host": "loop.example" };
    const options = { port: PROXY_PORT, method, path, agent: this.agent, headers: { "content-length": Buffer.byteLength(body), ...context, ...headers } };
    return new Promise((resolve) => {
      const lost = () => resolve({ id, status: 0, text: "" });
      const request = http.request({ host: "127.0.0.1", ...options }, (response) => {
        let text = "";
        response.on("data", (data) => (text += data)).on("error", lost).on("end", () => resolve({ id, status: response.statusCode, text }));
      });
      request.on("error", lost).end(body);
    });
  }

  deliver({ headers, body }) {
    return this.send("POST", "/webhooks/github", headers, body);
  }

  signal(name) {
    signal(this.proxy.pid, name);
    signal(this.server, name);
  }

  async gone() {
    await until("the function has ended", () => !alive(this.proxy.pid) && !alive(this.server));
    this.ipc.close();
    this.agent.destroy();
  }

  async kill() {
    this.signal("SIGKILL");
    await this.gone();
  }
}

const delivery = (name) => {
  const body = JSON.stringify({ action: "opened", repository: { full_name: `${RUN}/${name}` }, sender: { login: "octocat" } });
  const signature = `sha256=${createHmac("sha256", SECRET).update(body).digest("hex")}`;
  const headers = { "content-type": "application/json", "x-github-event": "issues", "x-github-delivery": `${RUN}-${name}`, "x-hub-signature-256": signature };
  return { name, headers, body };
};

const query = (sql) =>
  execFileSync(psql, ["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", process.env.DATABASE_URL, "-c", sql], { encoding: "utf8" }).split("\n").filter(Boolean);

/** What the database holds of each delivery: how many issues, signals and records of it. */
const stored = () => {
  const sql = `
    SELECT split_part(made.repository, '/', 2), count(DISTINCT made.issue), count(DISTINCT made.signal), count(DISTINCT d.key)
    FROM (SELECT coalesce(i.signal_payload, s.metadata -> 'rawPayload') -> 'repository' ->> 'full_name' AS repository, i.id AS issue, s.id AS signal
          FROM issues AS i FULL JOIN signals AS s ON s.issue_id = i.id) AS made
    LEFT JOIN deliveries AS d ON d.signal_id = made.signal
    WHERE made.repository LIKE '${RUN}/%' GROUP BY 1`;
  return new Map(query(sql).map((row) => row.split("|")).map(([name, ...counts]) => [name, counts.join(" ")]));
};
const each = (names, counts) => new Map(names.map((name) => [name, counts]));
const sorted = (map) => new Map([...map].sort());
const say = (what, value) => console.log(`${what.padEnd(58)} ${value}`);
const ms = (value) => `${value.toFixed(1)} ms`;

let instance = await Instance.start();
const migrated = await instance.send("POST", "/admin/migrate", { authorization: `Bearer ${ADMIN}` });
assert.equal(migrated.status, 200, migrated.text);
say("POST /admin/migrate", migrated.text);
await instance.kill();

// The server alone, as the proxy starts it.
{
  const port = await freePort();
  const born = performance.now();
  const server = spawn(join(directory, "user-server"), { env: { ...settings, PORT: String(port) }, stdio: ["ignore", "inherit", "inherit"] });
  started.add(server.pid);
  await until("the server listens", () => listens(port));
  const listening = performance.now() - born;
  const { headers, body } = delivery("alone");
  const answer = await fetch(`http://127.0.0.1:${port}/webhooks/github`, { method: "POST", headers, body });
  assert.equal(answer.status, 201, await answer.text());
  say("the server alone: start to listening, to first webhook", `${ms(listening)}, ${ms(performance.now() - born)}`);
  signal(server.pid, "SIGKILL");
  await until("the server has ended", () => !alive(server.pid));
}

instance = await Instance.start();
const first = delivery("first");
const cold = await instance.deliver(first);
const coldMs = performance.now() - instance.born;
assert.equal(cold.status, 201);
say("behind the proxy: what it reports, start to first webhook", `${instance.initDuration} ms, ${ms(coldMs)}`);

const forged = { ...first, headers: { ...first.headers, "x-hub-signature-256": `sha256=${"0".repeat(64)}` } };
for (const [what, expected, answer] of [
  ["GET /health", 200, await instance.send("GET", "/health")],
  ["GET /ready", 200, await instance.send("GET", "/ready")],
  ["the same webhook again", 200, await instance.deliver(first)],
  ["a webhook with a wrong signature", 401, await instance.deliver(forged)],
  ["the API without a key", 401, await instance.send("GET", "/api/v1/issues")],
  ["a body of 6 MB", 413, await instance.send("POST", "/webhooks/github", first.headers, Buffer.alloc(6 << 20, " "))],
]) {
  assert.equal(answer.status, expected, `${what}: ${answer.text}`);
  say(what, answer.status);
}
await until("the end of every request is reported", () => instance.ended.size === instance.requests);

// An instance is frozen between requests. Connections that were idle for too long meanwhile, or that the database has closed, must not take
// the next request with them.
const thawed = [];
for (let round = 0; round < 3; round += 1) {
  await Promise.all([1, 2, 3, 4].map((n) => instance.deliver(delivery(`warm-${round}-${n}`))));
  instance.signal("SIGSTOP");
  const closed = query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '${RUN}'`);
  assert(closed.length > 0, "the function has connections to the database");
  await sleep(16_000);
  const answers = [1, 2].map((n) => instance.deliver(delivery(`thawed-${round}-${n}`)));
  await sleep(50);
  instance.signal("SIGCONT");
  thawed.push(...(await Promise.all(answers)).map(({ status }) => status));
}
assert.deepEqual(thawed, thawed.map(() => 201), "webhooks that arrive at a frozen instance");
say("webhooks that arrived at a frozen instance", thawed.join(" "));

// Killed in the middle of many: first the server alone, then all of the function.
for (const [round, victims] of [["server", "the server"], ["function", "the function"]]) {
  const deliveries = Array.from({ length: 200 }, (_, n) => delivery(`${round}-${n}`));
  const acknowledged = [];
  let killed = false;
  const answers = await Promise.all(deliveries.map(async (one) => {
    const answer = await instance.deliver(one);
    if (answer.status === 201) acknowledged.push(one.name);
    if (acknowledged.length === 60 && !killed) {
      killed = true;
      if (round === "server") signal(instance.server, "SIGKILL");
      else instance.signal("SIGKILL");
    }
    return answer.status;
  }));
  assert(killed, `killed in the middle: ${answers.join(" ")}`);
  // The proxy ends by itself when its server has; nothing is left of it either way.
  await instance.gone();
  await until("nothing is under way in the database", () => query(`SELECT pid FROM pg_stat_activity WHERE application_name = '${RUN}' LIMIT 1`).length === 0);
  const mine = () => sorted(new Map([...stored()].filter(([name]) => name.startsWith(`${round}-`))));
  const left = mine();
  assert.deepEqual(left, each([...left.keys()], "1 1 1"), "nothing is half-made");
  assert.deepEqual(acknowledged.filter((name) => !left.has(name)), [], "what was acknowledged is there");
  const lost = answers.filter((status) => status !== 201).length;
  assert(lost > 0, "some were not answered");

  instance = await Instance.start();
  const again = await Promise.all(deliveries.map(async (one) => [one.name, (await instance.deliver(one)).status]));
  assert.deepEqual(sorted(new Map(again)), sorted(new Map(deliveries.map(({ name }) => [name, left.has(name) ? 200 : 201]))));
  assert.deepEqual(mine(), sorted(each(deliveries.map(({ name }) => name), "1 1 1")));
  say(`${victims} killed: acknowledged, not answered, stored`, `${acknowledged.length}, ${lost}, ${left.size}; after redelivery 200 of 200`);
}

const total = stored();
assert.deepEqual([...total.values()].filter((counts) => counts !== "1 1 1"), []);
await instance.kill();
say("deliveries stored in all, each with one issue and one signal", total.size);
