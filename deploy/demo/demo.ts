/**
 * The demo: three pods, a NetworkPolicy, a plugin, and a swap of it under load; every table is measured with real connections.
 *
 * `npm run demo` takes everything away at the end; with `-- --keep` it stays until Ctrl-C. `-- --name` names its lab, `-- --api` is where its
 * engine listens: with both it runs beside another one.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, styleText } from 'node:util';
import Table from 'cli-table3';
import { parseHostPort } from '../../engine/config.ts';
import { EngineError } from '../../engine/errors.ts';
import { inPod, type Lab, type LabPod, labDown, labUp } from '../../engine/lab/lab.ts';

const PORTS = [80, 8080];
const TRY_SECONDS = 0.5;
const DEFAULT_API = '127.0.0.1:9470';

const here = fileURLToPath(new URL('.', import.meta.url));
const root = fileURLToPath(new URL('../..', import.meta.url));
const cli = join(root, 'engine/cli/sluice.js');
const { values: options } = parseArgs({
  options: {
    keep: { type: 'boolean', default: false },
    name: { type: 'string', default: 'demo' },
    api: { type: 'string', default: DEFAULT_API },
  },
});
const LAB = options.name;
const API = options.api;
/** Of its own, so that an engine of this machine keeps its maps. */
const BPFFS = `/sys/fs/bpf/sluice-${LAB}`;

/** Aborted when everything is taken away. */
const ending = new AbortController();

const say = (text: string): void => console.log(`\n${styleText('bold', '▸')} ${text}`);
const dim = (text: string): void => console.log(styleText('dim', `  ${text}`));

async function main(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new EngineError('NOT_ROOT', 'Cannot run the demo: it loads BPF programs and makes network namespaces; run it as root');
  await requireFreeApi();
  const directory = mkdtempSync(join(tmpdir(), 'sluice-demo-'));
  labDown(LAB);
  let engine: ChildProcess | undefined;
  let ended: Promise<void> | undefined;
  const takeAway = async (): Promise<void> => {
    ending.abort();
    engine?.kill('SIGTERM');
    await new Promise((resolve) => (engine && engine.exitCode === null ? engine.once('exit', resolve) : resolve(undefined)));
    await run(['cleanup', '--bpffs', BPFFS]);
    labDown(LAB);
    rmSync(directory, { recursive: true, force: true });
  };
  const end = (): Promise<void> => (ended ??= takeAway());
  // A terminal's Ctrl-C may come twice, by way of npm: the second one must not cut this short.
  process.on('SIGINT', () => void end().then(() => process.exit(130)));
  process.on('SIGTERM', () => void end().then(() => process.exit(143)));
  try {
    say('A lab of three pods in two namespaces, each a network namespace with a veth of its own');
    const lab = await labUp(LAB, [join(here, 'cluster.yaml')], { readyMs: 10_000, progress: dim });
    await showMatrix(lab, 'Without policy, everybody reaches everybody');
    engine = await startEngine(lab, directory);
    await showPolicy(lab);
    await showPlugin(lab, directory);
    await showSwap(lab);
    if (options.keep) {
      say('Everything stays as it is until Ctrl-C. In another terminal, for example:');
      dim(`npm run sluice -- lab exec frontend --name ${LAB} -- curl -m 1 http://${address(lab, 'backend')}`);
      dim(`npm run sluice -- flows --follow${API === DEFAULT_API ? '' : ` --api ${API}`}`);
      announceApi('is');
      await new Promise((resolve) => engine?.once('exit', resolve));
      return;
    }
    announceApi('was');
  } finally {
    await end();
  }
}

async function showPolicy(lab: Lab): Promise<void> {
  copyFileSync(join(here, 'policy.yaml'), join(lab.source, 'policy.yaml'));
  await sluice('wait');
  await showMatrix(
    lab,
    'NetworkPolicy allow-frontend-to-backend is in force: app: frontend reaches app: backend on TCP 80, nobody else does',
  );
}

async function showPlugin(lab: Lab, directory: string): Promise<void> {
  const module = join(directory, 'plugin.wasm');
  copyFileSync(join(root, 'plugins/egress-allow-list/build/egress-allow-list.wasm'), module);
  writeFileSync(join(lab.source, 'plugin.yaml'), readFileSync(join(here, 'plugin.yaml'), 'utf8').replace('PLUGIN', module));
  await sluice('wait');
  await showMatrix(
    lab,
    'What the frontend opens is tagged: the kernel holds the first packet, the Wasm plugin egress-allow-list decides it',
  );
  say('The verdicts with their reasons, as the engine tells them (sluice flows)');
  await showFlows(6);
}

/** Swaps the plugin while requests flow, one a few milliseconds after the other. */
async function showSwap(lab: Lab): Promise<void> {
  say(
    'Requests flow from the frontend to the backend; meanwhile the plugin is replaced over HTTP by connection-rate: 4 new connections in 2 seconds',
  );
  const frontend = pod(lab, 'frontend');
  const counts = { answered: 0, refused: 0, answeredAfter: 0, refusedAfter: 0 };
  let swapped = false;
  let going = true;
  const load = (async () => {
    while (going) {
      const after = swapped;
      const ok = await reaches(frontend, address(lab, 'backend'), 80, 0.3);
      if (after) counts[ok ? 'answeredAfter' : 'refusedAfter'] += 1;
      else if (!swapped) counts[ok ? 'answered' : 'refused'] += 1;
    }
  })();
  await pause(1500);
  const module = readFileSync(join(root, 'plugins/connection-rate/build/connection-rate.wasm'));
  const started = performance.now();
  const response = await fetch(`http://${API}/v1/plugins/frontend-egress`, {
    method: 'PUT',
    headers: { 'content-type': 'application/wasm' },
    body: module,
  });
  if (!response.ok) throw new EngineError('PLUGIN_INVALID', `Cannot swap the plugin: ${await response.text()}`);
  swapped = true;
  const {
    plugin: { epoch },
  } = (await response.json()) as { plugin: { epoch: number } };
  dim(`PUT /v1/plugins/frontend-egress: epoch ${epoch} in force after ${(performance.now() - started).toFixed(0)} ms`);
  await pause(3000);
  going = false;
  await load;
  dim(
    `before the swap ${counts.answered} requests were answered and ${counts.refused} not; after it ${counts.answeredAfter} were answered, ${counts.refusedAfter} dropped by the limit`,
  );
  await pause(2500);
  await showMatrix(
    lab,
    'The matrix changed without a line of policy: the new plugin allows every destination, a few connections a second; what the backend’s NetworkPolicy denies stays denied',
  );
  say('Why the last ones were dropped');
  await showFlows(4, '"verdict":"deny"');
}

/** Who reaches whom, one connection a cell, one after another: the rate limit is part of what is shown. */
async function showMatrix(lab: Lab, title: string): Promise<void> {
  say(title);
  const columns = lab.pods.flatMap((to) => PORTS.map((port) => ({ to, port })));
  const table = new Table({
    head: ['from \\ to', ...columns.map(({ to, port }) => `${to.name}:${port}`)],
    style: { head: [], border: [] },
  });
  for (const from of lab.pods) {
    const cells: string[] = [];
    for (const { to, port } of columns) {
      if (to === from) cells.push(styleText('dim', '·'));
      else
        cells.push((await reaches(from, to.addresses[0] as string, port, TRY_SECONDS)) ? styleText('green', '✔') : styleText('red', '✘'));
    }
    table.push([from.name, ...cells]);
  }
  console.log(table.toString());
}

async function showFlows(count: number, containing = '"plugin":"frontend-egress"'): Promise<void> {
  const { stdout } = await sluice('flows', '-o', 'json', '--last', '200');
  const flows = stdout
    .split('\n')
    .filter((line) => line.includes(containing))
    .map((line) => JSON.parse(line));
  for (const flow of flows.slice(-count)) {
    const verdict = flow.verdict === 'allow' ? styleText('green', 'allow') : styleText('red', 'deny ');
    const held = flow.heldUs ? styleText('dim', `, decided in ${flow.heldUs} µs`) : '';
    console.log(`  ${verdict} ${flow.source.pod} → ${flow.destination.pod}:${flow.destination.port}  ${flow.reason}${held}`);
  }
}

async function startEngine(lab: Lab, directory: string): Promise<ChildProcess> {
  const log = join(directory, 'engine.log');
  const state = join(directory, 'state');
  say(`The engine starts on ${lab.source}`);
  const child = spawn(
    process.execPath,
    [cli, 'run', '--source', `dir:${lab.source}`, '--state-dir', state, '--bpffs', BPFFS, '--api', API],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  let text = '';
  child.stderr?.on('data', (chunk) => writeFileSync(log, (text += chunk)));
  const failed = new Promise<never>((_, reject) =>
    child.once('exit', (code) => reject(new EngineError('TIMEOUT', `Cannot start the engine: it exited with ${code}: ${text.trim()}`))),
  );
  await Promise.race([sluice('wait', '--timeout', '20s'), failed]);
  failed.catch(() => {});
  return child;
}

/** Another engine there would answer for the demo's, and have its plugin replaced. */
async function requireFreeApi(): Promise<void> {
  const { host, port } = parseHostPort(API, '--api');
  const used = await new Promise<boolean>((resolve) => {
    const socket = connect(port, host, () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
  if (used)
    throw new EngineError(
      'API_LISTEN',
      `Cannot run the demo: somebody listens on ${API} already, another engine or demo; stop it, or run npm run demo -- --name other --api 127.0.0.1:9471`,
    );
}

function announceApi(verb: string): void {
  console.log(
    `\nThe API ${verb} at ${styleText('cyan', `http://${API}`)} (OpenAPI document: /openapi.json)${verb === 'was' ? '; npm run demo -- --keep leaves it running' : ''}`,
  );
}

function pod(lab: Lab, name: string): LabPod {
  return lab.pods.find((candidate) => candidate.name === name) as LabPod;
}

function address(lab: Lab, name: string): string {
  return pod(lab, name).addresses[0] as string;
}

function reaches(from: LabPod, to: string, port: number, seconds: number): Promise<boolean> {
  const [program, args] = inPod(from, ['curl', '-gs', '-m', String(seconds), '-o', '/dev/null', `http://${to}:${port}/`]);
  return new Promise((resolve) => execFile(program, args, (error) => resolve(!error)));
}

/** Asks the demo's engine; who still waits for an answer when all is taken away gets none. */
function sluice(...args: string[]): Promise<{ stdout: string }> {
  return run([...args, '--api', API], ending.signal);
}

function run(args: string[], signal?: AbortSignal): Promise<{ stdout: string }> {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [cli, ...args], { signal }, (error, stdout, stderr) =>
      error ? reject(new Error(stderr || stdout || error.message)) : resolve({ stdout }),
    );
  });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

await main().catch((error: Error) => {
  console.error(styleText('red', `\n${error instanceof EngineError ? `${error.message} [${error.code}]` : error.message}`));
  process.exitCode = 1;
});
