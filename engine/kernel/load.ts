/** Loading the compiled object: what of it is wanted, in the words of native/sluice.h, and why it cannot be had. */
import { type StageSwitches, stageSwitchesCodec } from '../abi.gen.ts';
import { EngineError } from '../errors.ts';
import { mapSizeCodec, objectPlanCodec } from '../native.gen.ts';
import { addressOf, errnoName, native, objectPath, readHandle } from './native.ts';

/** A pinned map has another layout; errno(3) knows the number, and Node has no name for it. */
const EUCLEAN = 117;

/** Verifier logs are long, and worth keeping whole. */
const PROBLEM_BYTES = 1 << 20;

/** Maps that the engine fills, and how many entries they must have room for. */
export type MapSizes = Partial<
  Record<'node_addresses' | 'peers' | 'networks' | 'policies' | 'ports' | 'services' | 'backends' | 'backend_sets', number>
>;

interface Wanted {
  readonly pinDirectory: string;
  readonly switches: StageSwitches;
  readonly sizes?: MapSizes;
  /** An object whose maps it uses, in place of those that are pinned. */
  readonly loaded?: number;
}

/**
 * Loads every program. Returns the object's handle.
 *
 * @throws EngineError `NOT_ROOT`, `MAP_MISMATCH`, `KERNEL_UNSUPPORTED` or `KERNEL_LOAD`
 */
export function loadObject({ pinDirectory, switches, sizes = {}, loaded }: Wanted): number {
  const [path, pins] = [Buffer.from(`${objectPath}\0`), Buffer.from(`${pinDirectory}\0`)];
  const switchBytes = Buffer.alloc(stageSwitchesCodec.size);
  stageSwitchesCodec.write(switchBytes, 0, switches);
  const entries = Object.entries(sizes);
  const sizeBytes = Buffer.alloc(Math.max(1, entries.length) * mapSizeCodec.size);
  entries.forEach(([name, size], i) => {
    mapSizeCodec.write(sizeBytes, i * mapSizeCodec.size, { name: Buffer.from(name, 'latin1'), entries: size });
  });
  const problem = Buffer.alloc(PROBLEM_BYTES);
  const plan = Buffer.alloc(objectPlanCodec.size);
  objectPlanCodec.write(plan, 0, {
    path: addressOf(path),
    pinDirectory: addressOf(pins),
    switches: addressOf(switchBytes),
    sizes: addressOf(sizeBytes),
    problem: addressOf(problem),
    sizeCount: entries.length,
    problemSize: problem.length,
  });
  const cell = Buffer.alloc(8);
  const result = loaded === undefined ? native.sluice_object__load(plan, cell) : native.sluice_object__load_again(plan, loaded, cell);
  if (result < 0) throw loadError(result, problem.toString('utf8', 0, problem.indexOf(0)).trim(), pinDirectory);
  return readHandle(cell);
}

export function mapMismatch(pinDirectory: string, problem: string): EngineError {
  return new EngineError(
    'MAP_MISMATCH',
    `Cannot take over ${pinDirectory}: ${problem}; another version made it; run sluice cleanup --bpffs ${pinDirectory} first`,
  );
}

function loadError(result: number, problem: string, pinDirectory: string): EngineError {
  const name = errnoName(result);
  if (result === -EUCLEAN) return mapMismatch(pinDirectory, problem);
  if (name === 'EPERM')
    return new EngineError(
      'NOT_ROOT',
      `Cannot load BPF programs: ${name}; run as root, or with CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW and CAP_PERFMON`,
      problem,
    );
  if (name === 'EINVAL' || name === 'ENOSYS' || name === 'EOPNOTSUPP')
    return new EngineError(
      'KERNEL_UNSUPPORTED',
      `Cannot load BPF programs: not supported on this kernel: needs Linux 6.1 or later with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_ACT (${problem.split('\n').at(-1)})`,
      problem,
    );
  return new EngineError('KERNEL_LOAD', `Cannot load BPF programs: ${name} (${problem.split('\n').at(-1)})`, problem);
}
