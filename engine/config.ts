/** The engine's settings, of flags and environment, as one frozen value. */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { PolicyFlag } from './abi.gen.ts';
import { type ApiAccess, type ConfigFile, type ModuleAccess, NO_CONFIG_FILE } from './config-file.ts';
import { EngineError } from './errors.ts';
import { MAPS } from './maps.gen.ts';
import { parseAddress } from './policy/address.ts';

export const DEFAULT_API = '127.0.0.1:9470';
export const DEFAULT_BPFFS = '/sys/fs/bpf/sluice';
export const DEFAULT_STATE_DIR = '/var/lib/sluice';
/** Where libcni keeps results unless it is told otherwise, and where older kubelets told it to. */
export const CNI_RESULTS = ['/var/lib/cni/results', '/var/lib/cni/cache/results'];

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export interface Config {
  readonly source:
    | { readonly kind: 'dir'; readonly path: string }
    | { readonly kind: 'kubernetes'; readonly kubeconfig?: string; readonly nodeName: string };
  /** As the cluster calls this node. */
  readonly nodeName: string;
  readonly api: HostPort;
  readonly bpffs: string;
  readonly stateDir: string;
  readonly holdTimeoutMs: number;
  readonly logLevel: string;
  readonly limits: ConntrackLimits & NameLimits;
  /** 16 bytes each: whose answers to DNS queries are believed. */
  readonly resolvers: readonly Uint8Array[];
  /** The cgroup whose processes HostPolicies are about; absent: the host firewall is off. */
  readonly hostFirewall?: string;
  /** How long a change of the host firewall holds without a confirmation. */
  readonly confirmMs: number;
  /** The cgroup below which the kubelet makes those of this node's pods: a path below the cgroup2 mount. */
  readonly cgroupRoot: string;
  /** Directories in which the container runtime notes the pods' networks. */
  readonly cniResults: readonly string[];
  readonly access: ApiAccess;
  /** Public keys, PEM, of whose plugins are trusted; empty: plugins need no signature. */
  readonly trustedKeys: ConfigFile['trustedKeys'];
  readonly modules: ModuleAccess & {
    readonly namespaces: readonly string[];
    /** A file as `docker login` writes: credentials for registries where no Secret is named. */
    readonly registryAuth?: string | undefined;
  };
}

/** How long connections live without packets, in seconds, and how many tracked ones one endpoint may have. */
export interface ConntrackLimits {
  readonly openingS: number;
  readonly establishedS: number;
  readonly closingS: number;
  readonly unansweredS: number;
  readonly answeredS: number;
  readonly connectionsShare: number;
}

/**
 * As nf_conntrack has them, but for established TCP: a bit longer than a keep-alive interval (7,200 s by default, tcp(7)).
 * A quarter of the map is one endpoint's share.
 */
export const DEFAULT_CONNTRACK: ConntrackLimits = {
  openingS: 60,
  establishedS: 8000,
  closingS: 10,
  unansweredS: 30,
  answeredS: 120,
  connectionsShare: 32_768,
};

/** How long names hold, how many addresses one endpoint may know by them, and what becomes of queries about other names. */
export interface NameLimits {
  readonly nameMinimumS: number;
  readonly addressesShare: number;
  /** DNS response code. */
  readonly refusal: number;
  /** enum policy_flag. */
  readonly flags: number;
}

/** A name server's answer may be used for as long as a client of moderate speed needs; an eighth of the map is one endpoint's. */
const DEFAULT_NAMES: NameLimits = { nameMinimumS: 30, addressesShare: 16_384, refusal: 5, flags: 0 };
/** RFC 1035, 4.1.1 */
const REFUSALS: Readonly<Record<string, number>> = { refused: 5, nxdomain: 3 };
const OUTSIDE: Readonly<Record<string, number>> = { pass: 0, refuse: PolicyFlag.REFUSE_OUTSIDE };
const NAME_MINIMUM_S_MAX = 24 * 3600;

export const DEFAULT_LIMITS = { ...DEFAULT_CONNTRACK, ...DEFAULT_NAMES };
const CONNTRACK_S_MAX = 30 * 24 * 3600;

/** As names of Nodes are. */
const NODE_NAME = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
/** Where what a cluster needs runs, unless the pod says otherwise. */
const OWN_NAMESPACE = 'kube-system';

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

/** Checks flags. @throws EngineError `CONFIG_INVALID` with the flag and what to write instead. */
export function readConfig(flags: {
  source: string;
  kubeconfig?: string | undefined;
  nodeName?: string | undefined;
  api: string;
  bpffs: string;
  stateDir: string;
  holdTimeoutMs: number;
  logLevel: string;
  conntrack: readonly string[];
  dns: readonly string[];
  resolver: readonly string[] | undefined;
  hostFirewall: string | undefined;
  confirmMs: number;
  registryAuth?: string | undefined;
  cgroupRoot: string;
  cniResults: readonly string[];
  file?: ConfigFile;
}): Config {
  const { access, trustedKeys, modules } = flags.file ?? NO_CONFIG_FILE;
  const api = parseHostPort(flags.api, '--api');
  checkAccess(api, flags.api, access);
  if (!LOG_LEVELS.includes(flags.logLevel))
    throw new EngineError('CONFIG_INVALID', `Cannot use --log-level ${flags.logLevel}: must be one of ${LOG_LEVELS.join(', ')}`);
  if (!Number.isInteger(flags.holdTimeoutMs) || flags.holdTimeoutMs < 1 || flags.holdTimeoutMs > 10_000)
    throw new EngineError('CONFIG_INVALID', `Cannot use --hold-timeout ${flags.holdTimeoutMs}: must be 1 to 10000 milliseconds`);
  if (flags.hostFirewall !== undefined && !isCgroup(flags.hostFirewall))
    throw new EngineError('CONFIG_INVALID', `Cannot use --host-firewall ${flags.hostFirewall}: must be a cgroup such as /system.slice`);
  if (flags.confirmMs < 1000 || flags.confirmMs > 3_600_000)
    throw new EngineError('CONFIG_INVALID', 'Cannot use --confirm-timeout: must be 1s to 1h');
  if (!isCgroup(flags.cgroupRoot))
    throw new EngineError(
      'CONFIG_INVALID',
      `Cannot use --cgroup-root ${flags.cgroupRoot}: must be a path below the cgroup2 mount, such as / or /node-1`,
    );
  for (const directory of flags.cniResults)
    if (!directory.startsWith('/'))
      throw new EngineError('CONFIG_INVALID', `Cannot use --cni-results ${directory}: must be an absolute path, such as ${CNI_RESULTS[0]}`);
  if (!flags.bpffs.startsWith('/')) throw new EngineError('CONFIG_INVALID', `Cannot use --bpffs ${flags.bpffs}: must be an absolute path`);
  const nodeName = readNodeName(flags.nodeName);
  return Object.freeze({
    source: parseSource(flags, nodeName),
    nodeName,
    api,
    bpffs: flags.bpffs,
    stateDir: flags.stateDir,
    holdTimeoutMs: flags.holdTimeoutMs,
    logLevel: flags.logLevel,
    limits: { ...parseConntrack(flags.conntrack), ...parseNames(flags.dns) },
    resolvers: flags.resolver ? flags.resolver.map(parseResolver) : systemResolvers(),
    ...(flags.hostFirewall !== undefined && { hostFirewall: flags.hostFirewall }),
    confirmMs: flags.confirmMs,
    cgroupRoot: flags.cgroupRoot,
    cniResults: flags.cniResults,
    access,
    trustedKeys,
    modules: {
      ...modules,
      namespaces: modules.namespaces ?? [process.env.POD_NAMESPACE || OWN_NAMESPACE],
      registryAuth: flags.registryAuth,
    },
  } as const);
}

/** The flag, what a DaemonSet says, or the host's name, as kubelet has it. @throws EngineError `CONFIG_INVALID` */
function readNodeName(flag: string | undefined): string {
  const name = flag ?? (process.env.NODE_NAME || hostname().toLowerCase());
  if (!NODE_NAME.test(name))
    throw new EngineError('CONFIG_INVALID', `Cannot use --node-name ${name}: must be the name of a Node, such as worker-1.example.com`);
  return name;
}

/** @throws EngineError `CONFIG_INVALID` */
function parseSource(flags: { source: string; kubeconfig?: string | undefined }, nodeName: string): Config['source'] {
  const [, kind, path] = /^([a-z]+)(?::(.*))?$/s.exec(flags.source) ?? [];
  if (kind === 'kubernetes' && path === undefined)
    return { kind, nodeName, ...(flags.kubeconfig !== undefined && { kubeconfig: flags.kubeconfig }) };
  if (kind !== 'dir' || !path)
    throw new EngineError('CONFIG_INVALID', `Cannot use --source ${flags.source}: must be dir:PATH or kubernetes`);
  if (flags.kubeconfig !== undefined)
    throw new EngineError('CONFIG_INVALID', `Cannot use --kubeconfig with --source ${flags.source}: it is for --source kubernetes`);
  return { kind, path };
}

function isCgroup(path: string): boolean {
  return path.startsWith('/') && !path.split('/').includes('..');
}

/** An address that others can reach needs somebody who may use it, and nobody who can read along. */
function checkAccess(api: HostPort, text: string, access: ApiAccess): void {
  if (isLoopback(api.host)) return;
  if (!access.tokens.length && !access.clients.size)
    throw new EngineError(
      'CONFIG_INVALID',
      `Cannot listen on ${text}: whoever reaches it could push plugins; give tokens or clients in the access section of --config, or use a loopback address such as ${DEFAULT_API}`,
    );
  if (!access.tls && !access.plainText)
    throw new EngineError(
      'CONFIG_INVALID',
      `Cannot listen on ${text}: tokens would cross the network in clear; give access.tls in --config, or plainText: true if something else encrypts`,
    );
}

/** `established=2h`, `share=10000`. @throws EngineError `CONFIG_INVALID` */
function parseConntrack(settings: readonly string[]): ConntrackLimits {
  const limits: Record<string, number> = { ...DEFAULT_CONNTRACK };
  for (const setting of settings) {
    const [name = '', value = ''] = setting.split('=', 2);
    const field = name === 'share' ? 'connectionsShare' : `${name}S`;
    if (!Object.hasOwn(DEFAULT_CONNTRACK, field))
      throw new EngineError(
        'CONFIG_INVALID',
        `Cannot use --conntrack ${setting}: must be opening=, established=, closing=, unanswered= or answered= with a duration, or share= with a number`,
      );
    const number = name === 'share' ? Number(value) : parseDuration(value, `--conntrack ${name}`) / 1000;
    if (!Number.isInteger(number) || number < 1 || number > CONNTRACK_S_MAX)
      throw new EngineError(
        'CONFIG_INVALID',
        `Cannot use --conntrack ${setting}: must be 1 to ${CONNTRACK_S_MAX}, in whole ${name === 'share' ? 'connections' : 'seconds'}`,
      );
    limits[field] = number;
  }
  return limits as unknown as ConntrackLimits;
}

/** `minimum-ttl=5m`, `refusal=nxdomain`, `outside=refuse`, `share=1000`. @throws EngineError `CONFIG_INVALID` */
function parseNames(settings: readonly string[]): NameLimits {
  let limits = DEFAULT_NAMES;
  for (const setting of settings) {
    const [name = '', value = ''] = setting.split('=', 2);
    const refuse = (what: string): never => {
      throw new EngineError('CONFIG_INVALID', `Cannot use --dns ${setting}: must be ${what}`);
    };
    const number = (text: number, most: number, what: string): number =>
      Number.isInteger(text) && text >= 1 && text <= most ? text : refuse(`1 to ${most} ${what}`);
    const choice = (choices: Readonly<Record<string, number>>): number =>
      Object.hasOwn(choices, value) ? (choices[value] as number) : refuse(`${name}=${Object.keys(choices).join(` or ${name}=`)}`);
    if (name === 'minimum-ttl')
      limits = { ...limits, nameMinimumS: number(parseDuration(value, '--dns minimum-ttl') / 1000, NAME_MINIMUM_S_MAX, 'whole seconds') };
    else if (name === 'share') limits = { ...limits, addressesShare: number(Number(value), MAPS.known_addresses.maxEntries, 'addresses') };
    else if (name === 'refusal') limits = { ...limits, refusal: choice(REFUSALS) };
    else if (name === 'outside') limits = { ...limits, flags: choice(OUTSIDE) };
    else refuse('minimum-ttl= with a duration, refusal=, outside= or share= with a number');
  }
  return limits;
}

function parseResolver(text: string): Uint8Array {
  const address = parseAddress(text);
  if (!address) throw new EngineError('CONFIG_INVALID', `Cannot use --resolver ${text}: must be an IP address`);
  return address;
}

/** The resolvers that this machine uses itself: resolv.conf(5). */
function systemResolvers(): Uint8Array[] {
  let text = '';
  try {
    text = readFileSync('/etc/resolv.conf', 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      throw new EngineError('CONFIG_INVALID', 'Cannot read /etc/resolv.conf: name the resolvers with --resolver', error);
  }
  return [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].flatMap(([, address = '']) => parseAddress(address) ?? []);
}

/**
 * Host and port of a text. @throws EngineError `CONFIG_INVALID`
 *
 * @example
 * parseHostPort('[::1]:9470', '--api') // { host: '::1', port: 9470 }
 */
export function parseHostPort(text: string, flag: string): HostPort {
  const [, v6, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = v6 ?? plain;
  if (!host || Number(port) > 65_535)
    throw new EngineError('CONFIG_INVALID', `Cannot use ${flag} ${text}: must be HOST:PORT, such as ${DEFAULT_API}`);
  return { host, port: Number(port) };
}

/** Whether only this machine can reach the address. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

/**
 * Milliseconds of a duration; a number without a unit is seconds. @throws EngineError `CONFIG_INVALID`
 *
 * @example
 * parseDuration('500ms', '--timeout') // 500
 * parseDuration('2m', '--timeout') // 120_000
 * parseDuration('30', '--timeout') // 30_000
 */
export function parseDuration(text: string, flag: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text) ?? [];
  const scale = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[unit ?? 's'];
  if (number === undefined || scale === undefined)
    throw new EngineError('CONFIG_INVALID', `Cannot use ${flag} ${text}: must be a duration such as 30s or 500ms`);
  return Number(number) * scale;
}
