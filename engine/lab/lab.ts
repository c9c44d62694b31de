/**
 * A cluster on this machine: each pod a network namespace, each container a process in it.
 *
 * Everything that belongs to a lab carries its name, so that down() finds it after a crash as well: namespaces are
 * called `sluice.LAB.NAMESPACE.POD`, and what is written lies below one directory.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { EngineError } from '../errors.ts';
import { objectName } from '../policy/object-name.ts';
import { INTERFACE_ANNOTATION } from '../sources/read-object.ts';
import { type Container, type Manifest, readManifests } from './manifests.ts';
import { createPodNetwork, enableForwarding, listNetns, netnsPath, type PodNetwork, removeNetns, restoreForwarding } from './network.ts';

const LABS_DIRECTORY = '/run/sluice/lab';
/** The only image that the lab knows: answers HTTP on the container's ports with the pod's name. */
export const HTTP_ECHO_IMAGE = 'sluice.dev/lab/http-echo';
const POLL_MS = 20;
/** Second byte of the pods' IPv4 network: one for each lab on this machine. */
const FIRST_NETWORK = 88;
const NETWORKS = 100;

export interface LabPod extends PodNetwork {
  readonly namespace: string;
  readonly name: string;
}

export interface Lab {
  readonly name: string;
  /** Directory of manifests with what the lab filled in: the source for `sluice run`. */
  readonly source: string;
  readonly pods: readonly LabPod[];
}

export interface LabOptions {
  /** How long the containers may take until they answer, all of them. */
  readonly readyMs: number;
  /** Is told of each pod that is made. */
  readonly progress: (text: string) => void;
}

interface LabState extends Lab {
  readonly network: number;
  readonly forwarding: Readonly<Record<string, string>>;
}

/**
 * Brings a lab up from manifests; pods become namespaces, everything else is copied to the source directory.
 *
 * @throws EngineError `LAB`; what was made by then is removed.
 */
export async function labUp(name: string, paths: readonly string[], options: LabOptions): Promise<Lab> {
  if (!/^[a-z0-9][-a-z0-9]{0,30}$/.test(name))
    throw new EngineError('LAB', `Cannot bring up lab ${name}: a name has lower-case letters, digits and dashes`);
  if (existsSync(labDirectory(name)) || listNetns(netnsPrefix(name)).length)
    throw new EngineError('LAB', `Cannot bring up lab ${name}: it is up already; sluice lab down --name ${name}`);
  const manifests = readManifests(paths);
  const pods = manifests.filter((manifest) => manifest.kind === 'Pod' && !manifest.spec?.hostNetwork);
  if (!pods.length) throw new EngineError('LAB', `Cannot bring up lab ${name}: no Pod in ${paths.join(', ')}`);
  try {
    return await build(name, manifests, pods, options);
  } catch (error) {
    labDown(name);
    throw error;
  }
}

/** Removes a lab, also what a crash left of it. Returns the names of the namespaces that are gone. */
export function labDown(name: string): string[] {
  const state = findLab(name);
  const removed = listNetns(netnsPrefix(name));
  for (const netns of removed) removeNetns(netns);
  if (state) restoreForwarding(state.forwarding);
  rmSync(labDirectory(name), { recursive: true, force: true });
  return removed;
}

/** Names of the labs that are up, or of which something is left. */
export function listLabs(): string[] {
  const directories = existsSync(LABS_DIRECTORY) ? readdirSync(LABS_DIRECTORY) : [];
  const namespaces = listNetns('sluice.').map((netns) => netns.split('.')[1] as string);
  return [...new Set([...directories, ...namespaces])].sort();
}

/** A pod by `NAMESPACE/NAME`, or by NAME where only one has it. @throws EngineError `LAB` */
export function getLabPod(lab: string, pod: string): LabPod {
  const state = findLab(lab);
  if (!state) throw new EngineError('LAB', `Cannot find lab ${lab}: it is not up; labs are ${listLabs().join(', ') || 'none'}`);
  const found = state.pods.filter((candidate) => objectName(candidate) === pod || candidate.name === pod);
  if (found.length === 1) return found[0] as LabPod;
  const names = state.pods.map(objectName).join(', ');
  throw new EngineError(
    'LAB',
    `Cannot find pod ${pod} in lab ${lab}: ${found.length ? 'write NAMESPACE/NAME' : 'no such pod'}; pods are ${names}`,
  );
}

/** The command line that runs a command in a pod's network. */
export function inPod(pod: LabPod, command: readonly string[]): [string, string[]] {
  return ['nsenter', [`--net=${netnsPath(pod.netns)}`, '--', ...command]];
}

async function build(
  name: string,
  manifests: readonly Manifest[],
  pods: readonly Manifest[],
  { readyMs, progress }: LabOptions,
): Promise<Lab> {
  const directory = labDirectory(name);
  const source = join(directory, 'source');
  mkdirSync(source, { recursive: true });
  mkdirSync(join(directory, 'log'));
  const network = freeNetwork();
  const made = pods.map((manifest, i) => podNetwork(name, network, manifest, i + 1));
  const state: LabState = { name, source, pods: made, network, forwarding: enableForwarding() };
  writeFileSync(join(directory, 'lab.json'), JSON.stringify(state, null, 2));

  for (const [i, pod] of made.entries()) {
    createPodNetwork(pod);
    fillIn(pods[i] as Manifest, pod);
    progress(`pod ${objectName(pod)} has ${pod.addresses.join(' and ')} on ${pod.interface}`);
  }
  await Promise.all(
    made.flatMap((pod, i) =>
      (pods[i]?.spec?.containers ?? []).map((container, n) =>
        startContainer(pod, container, { logPath: join(directory, 'log', `${pod.namespace}.${pod.name}.${n}.log`), readyMs }),
      ),
    ),
  );
  writeFileSync(join(source, 'cluster.yaml'), manifests.map((manifest) => stringify(manifest)).join('---\n'));
  return { name, source, pods: made };
}

function podNetwork(lab: string, network: number, manifest: Manifest, index: number): LabPod {
  const namespace = manifest.metadata?.namespace ?? 'default';
  const name = manifest.metadata?.name;
  if (!name) throw new EngineError('LAB', `Cannot bring up lab ${lab}: a Pod has no name`);
  const hash = createHash('sha256')
    .update(`${lab}/${objectName({ namespace, name })}`)
    .digest('hex')
    .slice(0, 10);
  const listed = manifest.status?.podIPs?.map((entry) => entry.ip);
  const addresses = listed?.length
    ? listed
    : [`10.${network}.${index >> 8}.${index & 255}`, `${ipv6Network(network)}::${index.toString(16)}`];
  return { namespace, name, netns: `${netnsPrefix(lab)}${namespace}.${name}`, interface: `sl${hash}`, addresses };
}

/** The pod with the fields that a node fills in: where it is attached, and its addresses. */
function fillIn(manifest: Manifest, pod: LabPod): void {
  manifest.metadata = { ...manifest.metadata, annotations: { ...manifest.metadata?.annotations, [INTERFACE_ANNOTATION]: pod.interface } };
  manifest.status = { ...manifest.status, phase: 'Running', podIPs: pod.addresses.map((ip) => ({ ip })) };
}

async function startContainer(
  pod: LabPod,
  container: Container,
  { logPath, readyMs }: { logPath: string; readyMs: number },
): Promise<void> {
  const ports = (container.ports ?? []).map((port) => String(port.containerPort));
  const echo = container.image === HTTP_ECHO_IMAGE && !container.command;
  const command = echo
    ? [process.execPath, fileURLToPath(new URL('./http-echo.ts', import.meta.url)), pod.name, ...(ports.length ? ports : ['80'])]
    : [...(container.command ?? []), ...(container.args ?? [])];
  if (!command.length) return;
  const log = openSync(logPath, 'a');
  const [program, args] = inPod(pod, command);
  const child = spawn(program, args, { detached: true, stdio: ['ignore', log, log] });
  closeSync(log);
  let ended: string | undefined;
  child.on('exit', (code, signal) => (ended = `it ended with ${signal ?? code}`));
  child.on('error', (error) => (ended = error.message));
  child.unref();
  for (const deadline = performance.now() + readyMs; echo && !readFileSync(logPath, 'utf8').includes('ready'); ) {
    if (performance.now() > deadline) ended ??= `not ready within ${readyMs / 1000} s`;
    if (ended !== undefined)
      throw new EngineError(
        'LAB',
        `Cannot start ${command[0]} in pod ${objectName(pod)}: ${ended}; ${readFileSync(logPath, 'utf8').trim()}`,
      );
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function findLab(name: string): LabState | undefined {
  try {
    return JSON.parse(readFileSync(join(labDirectory(name), 'lab.json'), 'utf8')) as LabState;
  } catch (error) {
    // A crash may have left it half written: down() goes by names then.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function freeNetwork(): number {
  const used = new Set(listLabs().map((name) => findLab(name)?.network));
  for (let network = FIRST_NETWORK; network < FIRST_NETWORK + NETWORKS; network++) if (!used.has(network)) return network;
  throw new EngineError('LAB', `Cannot bring up a lab: ${NETWORKS} are up; sluice lab down --all`);
}

function labDirectory(name: string): string {
  return join(LABS_DIRECTORY, name);
}

function netnsPrefix(name: string): string {
  return `sluice.${name}.`;
}

/** fd88 for 10.88, and then on in the digits of IPv6. */
function ipv6Network(network: number): string {
  return `fd${(0x88 + network - FIRST_NETWORK).toString(16)}`;
}
