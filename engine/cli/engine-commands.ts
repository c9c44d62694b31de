/** `sluice run` and `sluice cleanup`: the commands that touch the kernel. */
import type { Argv, CommandModule } from 'yargs';
import { CNI_RESULTS, DEFAULT_BPFFS, DEFAULT_CONNTRACK, DEFAULT_LIMITS, DEFAULT_STATE_DIR, parseDuration, readConfig } from '../config.ts';
import { readConfigFile, readConfigFlags } from '../config-file.ts';
import { EngineError, messageOf } from '../errors.ts';
import { createLogger } from '../log.ts';

const bpffs = { type: 'string', default: DEFAULT_BPFFS, describe: 'where maps and links are pinned, on a BPF file system' } as const;

const { openingS, establishedS, closingS, unansweredS, answeredS, connectionsShare } = DEFAULT_CONNTRACK;
const CONNTRACK_DEFAULTS = `opening=${openingS}s established=${establishedS}s closing=${closingS}s unanswered=${unansweredS}s answered=${answeredS}s share=${connectionsShare}`;

/** Fails early, and in one sentence, where nothing could work. */
function requireRoot(): void {
  if (process.getuid?.() !== 0) throw new EngineError('NOT_ROOT', 'Cannot load BPF programs: this is not root; run it with sudo');
}

interface RunFlags {
  source: string;
  kubeconfig?: string;
  nodeName?: string;
  api: string;
  bpffs: string;
  stateDir: string;
  holdTimeout: string;
  conntrack: string[];
  dns: string[];
  resolver: string[] | undefined;
  hostFirewall?: string;
  confirmTimeout: string;
  registryAuth?: string;
  cgroupRoot: string;
  cniResults: string[];
  logLevel: string;
  config?: string;
}

const run: CommandModule<object, RunFlags> = {
  command: 'run',
  describe: 'Run the engine: read policy, program the kernel, ask plugins',
  builder: (yargs) =>
    yargs
      .option('source', {
        type: 'string',
        demandOption: true,
        describe: 'dir:PATH, a directory of manifests, or kubernetes, a cluster’s API',
      })
      .option('kubeconfig', {
        type: 'string',
        describe: 'how to reach the API of --source kubernetes; else KUBECONFIG, a pod’s service account or ~/.kube/config',
      })
      .option('node-name', {
        type: 'string',
        describe: 'the Node that this machine is; else NODE_NAME or the host’s name',
      })
      .option('bpffs', bpffs)
      .option('state-dir', { type: 'string', default: DEFAULT_STATE_DIR, describe: 'where plugins are kept that were pushed or fetched' })
      .option('hold-timeout', {
        type: 'string',
        default: '100ms',
        describe: 'after this, a held packet gets its plugin’s failure policy: 1ms to 10s',
      })
      .option('conntrack', {
        type: 'string',
        array: true,
        default: [],
        describe: `how long connections live without packets, and how many one endpoint may have; by default ${CONNTRACK_DEFAULTS}`,
      })
      .option('resolver', {
        type: 'string',
        array: true,
        describe:
          'DNS servers whose answers say what the domain names in policy are, beside pods with the annotation sluice.dev/resolver: "true"; those in /etc/resolv.conf unless given',
      })
      .option('dns', {
        type: 'string',
        array: true,
        default: [],
        describe: `how long an answer holds at least: minimum-ttl=${DEFAULT_LIMITS.nameMinimumS}s; what queries about names without a rule are answered: refusal=refused, or nxdomain; which: outside=pass (where only names allow the resolver), or refuse (all of a pod with names); how many addresses one endpoint may know: share=${DEFAULT_LIMITS.addressesShare}. The first of each is the default`,
      })
      .option('host-firewall', {
        type: 'string',
        describe: 'a cgroup such as /system.slice, whose processes HostPolicies are about; off without it',
      })
      .option('confirm-timeout', {
        type: 'string',
        default: '60s',
        describe: 'a change of the host firewall goes back to what was before, unless sluice host confirm comes within this: 1s to 1h',
      })
      .option('registry-auth', {
        type: 'string',
        describe:
          'credentials for registries of plugins without a pullSecret: a file as docker login or oras login writes; read at each use',
      })
      .option('cgroup-root', {
        type: 'string',
        default: '/',
        describe: 'the cgroup below which the kubelet makes kubepods, as a path below the cgroup2 mount',
      })
      .option('cni-results', {
        type: 'string',
        array: true,
        default: CNI_RESULTS,
        describe:
          'directories in which the container runtime notes whose network is where: by that the pods of an API are found, and by their addresses only where it notes nothing',
      })
      .option('log-level', { type: 'string', default: 'info', describe: 'trace, debug, info, warn, error, fatal or silent' })
      .config('config', 'a YAML or JSON file with any of these options, and with access, trustedKeys and modules', readConfigFlags)
      .example('$0 run --source dir:/etc/sluice', 'enforce what the manifests there say')
      .example('$0 run --source kubernetes --kubeconfig /etc/kubernetes/sluice.conf', 'enforce what the cluster’s API says')
      .example('$0 run --source dir:. --api 127.0.0.1:9999', 'another address for the API')
      .example(
        '$0 run --source dir:. --conntrack established=2h --conntrack share=10000',
        'any of its settings, the others as they are',
      ) as Argv<never>,
  handler: async (flags) => {
    const config = readConfig({
      ...flags,
      holdTimeoutMs: parseDuration(flags.holdTimeout, '--hold-timeout'),
      kubeconfig: flags.kubeconfig,
      nodeName: flags.nodeName,
      hostFirewall: flags.hostFirewall,
      resolver: flags.resolver,
      registryAuth: flags.registryAuth,
      confirmMs: parseDuration(flags.confirmTimeout, '--confirm-timeout'),
      ...(flags.config !== undefined && { file: readConfigFile(flags.config) }),
    });
    const log = createLogger(config.logLevel);
    requireRoot();
    // Loading it loads the native library, which only the commands of this file need.
    const { startEngine } = await import('../main.ts');
    const engine = await startEngine(config, log);
    await new Promise<void>((resolve) => {
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
    });
    // Once more, and it does not wait for what is under way.
    process.once('SIGINT', () => process.exit(130));
    await engine.stop().catch((error: unknown) => log.error({ reason: messageOf(error) }, 'not stopped cleanly'));
    process.exit(0);
  },
};

const cleanup: CommandModule<object, { bpffs: string }> = {
  command: 'cleanup',
  describe: 'Take every program, link and map away; nothing is enforced after that',
  builder: (yargs) => yargs.option('bpffs', bpffs).example('$0 cleanup', 'what an engine left behind') as Argv<never>,
  handler: async ({ bpffs: directory }) => {
    requireRoot();
    const { removeDatapath } = await import('../kernel/pins.ts');
    const removed = await removeDatapath(directory);
    console.log(removed.length ? `removed ${removed.length} things below ${directory}` : `nothing to remove below ${directory}`);
  },
};

export const engineCommands = [run, cleanup] as CommandModule[];
