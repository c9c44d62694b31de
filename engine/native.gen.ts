// Generated from native/sluice.h by `npm run generate`; do not edit.
//
// Everything that crosses between the engine and libsluice. Addresses of memory are bigints; everything is in host order.

/** enum attachment */
export const Attachment = {
  TCX: 0,
  CLSACT: 1,
} as const;
export type Attachment = (typeof Attachment)[keyof typeof Attachment];

/** enum veth_limit */
export const VethLimit = {
  ADDRESSES: 32,
} as const;
export type VethLimit = (typeof VethLimit)[keyof typeof VethLimit];

/** enum socket_operation */
export const SocketOperation = {
  WRITE_IN: 1,
  WRITE_OUT: 2,
  END: 3,
  CLOSE: 4,
  RESET: 5,
  PAUSE: 6,
  RESUME: 7,
} as const;
export type SocketOperation = (typeof SocketOperation)[keyof typeof SocketOperation];

/** enum socket_event */
export const SocketEvent = {
  ACCEPTED: 1,
  CONNECTED: 2,
  DATA: 3,
  ENDED: 4,
  BLOCKED: 5,
  DRAINED: 6,
  GONE: 7,
} as const;
export type SocketEvent = (typeof SocketEvent)[keyof typeof SocketEvent];

/** struct map_size, 24 bytes. */
export interface MapSize {
  name: Uint8Array;
  entries: number;
}

export const mapSizeCodec = {
  size: 24,
  offsets: { name: 0, entries: 20 },
  write(target: Buffer, at: number, value: MapSize): void {
    target.fill(0, at, at + 24);
    target.set(value.name.subarray(0, 20), at + 0);
    target.writeUInt32LE(value.entries, at + 20);
  },
  read(source: Buffer, at: number): MapSize {
    if (source.length < at + 24) throw new RangeError('struct map_size is cut short');
    return {
      name: Uint8Array.prototype.slice.call(source, at + 0, at + 20),
      entries: source.readUInt32LE(at + 20),
    };
  },
} as const;

/** struct object_plan, 48 bytes. */
export interface ObjectPlan {
  path: bigint;
  pinDirectory: bigint;
  switches: bigint;
  sizes: bigint;
  problem: bigint;
  sizeCount: number;
  problemSize: number;
}

export const objectPlanCodec = {
  size: 48,
  offsets: { path: 0, pinDirectory: 8, switches: 16, sizes: 24, problem: 32, sizeCount: 40, problemSize: 44 },
  write(target: Buffer, at: number, value: ObjectPlan): void {
    target.fill(0, at, at + 48);
    target.writeBigUInt64LE(value.path, at + 0);
    target.writeBigUInt64LE(value.pinDirectory, at + 8);
    target.writeBigUInt64LE(value.switches, at + 16);
    target.writeBigUInt64LE(value.sizes, at + 24);
    target.writeBigUInt64LE(value.problem, at + 32);
    target.writeUInt32LE(value.sizeCount, at + 40);
    target.writeUInt32LE(value.problemSize, at + 44);
  },
  read(source: Buffer, at: number): ObjectPlan {
    if (source.length < at + 48) throw new RangeError('struct object_plan is cut short');
    return {
      path: source.readBigUInt64LE(at + 0),
      pinDirectory: source.readBigUInt64LE(at + 8),
      switches: source.readBigUInt64LE(at + 16),
      sizes: source.readBigUInt64LE(at + 24),
      problem: source.readBigUInt64LE(at + 32),
      sizeCount: source.readUInt32LE(at + 40),
      problemSize: source.readUInt32LE(at + 44),
    };
  },
} as const;

/** struct veth, 40 bytes. */
export interface Veth {
  ifindex: number;
  peer: number;
  network: number;
  addressCount: number;
  name: Uint8Array;
  hardware: Uint8Array;
}

export const vethCodec = {
  size: 40,
  offsets: { ifindex: 0, peer: 4, network: 8, addressCount: 12, name: 16, hardware: 32 },
  write(target: Buffer, at: number, value: Veth): void {
    target.fill(0, at, at + 40);
    target.writeUInt32LE(value.ifindex, at + 0);
    target.writeUInt32LE(value.peer, at + 4);
    target.writeUInt32LE(value.network, at + 8);
    target.writeUInt32LE(value.addressCount, at + 12);
    target.set(value.name.subarray(0, 16), at + 16);
    target.set(value.hardware.subarray(0, 6), at + 32);
  },
  read(source: Buffer, at: number): Veth {
    if (source.length < at + 40) throw new RangeError('struct veth is cut short');
    return {
      ifindex: source.readUInt32LE(at + 0),
      peer: source.readUInt32LE(at + 4),
      network: source.readUInt32LE(at + 8),
      addressCount: source.readUInt32LE(at + 12),
      name: Uint8Array.prototype.slice.call(source, at + 16, at + 32),
      hardware: Uint8Array.prototype.slice.call(source, at + 32, at + 38),
    };
  },
} as const;

/** struct connection_count, 12 bytes. */
export interface ConnectionCount {
  endpoint: number;
  live: number;
  expired: number;
}

export const connectionCountCodec = {
  size: 12,
  offsets: { endpoint: 0, live: 4, expired: 8 },
  write(target: Buffer, at: number, value: ConnectionCount): void {
    target.fill(0, at, at + 12);
    target.writeUInt32LE(value.endpoint, at + 0);
    target.writeUInt32LE(value.live, at + 4);
    target.writeUInt32LE(value.expired, at + 8);
  },
  read(source: Buffer, at: number): ConnectionCount {
    if (source.length < at + 12) throw new RangeError('struct connection_count is cut short');
    return {
      endpoint: source.readUInt32LE(at + 0),
      live: source.readUInt32LE(at + 4),
      expired: source.readUInt32LE(at + 8),
    };
  },
} as const;

/** struct record_header, 8 bytes. */
export interface RecordHeader {
  length: number;
}

export const recordHeaderCodec = {
  size: 8,
  offsets: { length: 0 },
  write(target: Buffer, at: number, value: RecordHeader): void {
    target.fill(0, at, at + 8);
    target.writeUInt32LE(value.length, at + 0);
  },
  read(source: Buffer, at: number): RecordHeader {
    if (source.length < at + 8) throw new RangeError('struct record_header is cut short');
    return {
      length: source.readUInt32LE(at + 0),
    };
  },
} as const;

/** struct proxy_parts, 32 bytes. */
export interface ProxyParts {
  interface: bigint;
  program: number;
  picker: number;
  finder: number;
  listeners: number;
  engineStates: number;
  backlog: number;
}

export const proxyPartsCodec = {
  size: 32,
  offsets: { interface: 0, program: 8, picker: 12, finder: 16, listeners: 20, engineStates: 24, backlog: 28 },
  write(target: Buffer, at: number, value: ProxyParts): void {
    target.fill(0, at, at + 32);
    target.writeBigUInt64LE(value.interface, at + 0);
    target.writeUInt32LE(value.program, at + 8);
    target.writeUInt32LE(value.picker, at + 12);
    target.writeUInt32LE(value.finder, at + 16);
    target.writeUInt32LE(value.listeners, at + 20);
    target.writeUInt32LE(value.engineStates, at + 24);
    target.writeUInt32LE(value.backlog, at + 28);
  },
  read(source: Buffer, at: number): ProxyParts {
    if (source.length < at + 32) throw new RangeError('struct proxy_parts is cut short');
    return {
      interface: source.readBigUInt64LE(at + 0),
      program: source.readUInt32LE(at + 8),
      picker: source.readUInt32LE(at + 12),
      finder: source.readUInt32LE(at + 16),
      listeners: source.readUInt32LE(at + 20),
      engineStates: source.readUInt32LE(at + 24),
      backlog: source.readUInt32LE(at + 28),
    };
  },
} as const;

/** struct sockets_turn, 16 bytes. */
export interface SocketsTurn {
  timeoutMs: number;
  commandCount: number;
  eventCount: number;
  refusedCount: number;
}

export const socketsTurnCodec = {
  size: 16,
  offsets: { timeoutMs: 0, commandCount: 4, eventCount: 8, refusedCount: 12 },
  write(target: Buffer, at: number, value: SocketsTurn): void {
    target.fill(0, at, at + 16);
    target.writeUInt32LE(value.timeoutMs, at + 0);
    target.writeUInt32LE(value.commandCount, at + 4);
    target.writeUInt32LE(value.eventCount, at + 8);
    target.writeUInt32LE(value.refusedCount, at + 12);
  },
  read(source: Buffer, at: number): SocketsTurn {
    if (source.length < at + 16) throw new RangeError('struct sockets_turn is cut short');
    return {
      timeoutMs: source.readUInt32LE(at + 0),
      commandCount: source.readUInt32LE(at + 4),
      eventCount: source.readUInt32LE(at + 8),
      refusedCount: source.readUInt32LE(at + 12),
    };
  },
} as const;

/** struct socket_command, 16 bytes. */
export interface SocketCommand {
  id: number;
  operation: number;
  offset: number;
  length: number;
}

export const socketCommandCodec = {
  size: 16,
  offsets: { id: 0, operation: 4, offset: 8, length: 12 },
  write(target: Buffer, at: number, value: SocketCommand): void {
    target.fill(0, at, at + 16);
    target.writeUInt32LE(value.id, at + 0);
    target.writeUInt32LE(value.operation, at + 4);
    target.writeUInt32LE(value.offset, at + 8);
    target.writeUInt32LE(value.length, at + 12);
  },
  read(source: Buffer, at: number): SocketCommand {
    if (source.length < at + 16) throw new RangeError('struct socket_command is cut short');
    return {
      id: source.readUInt32LE(at + 0),
      operation: source.readUInt32LE(at + 4),
      offset: source.readUInt32LE(at + 8),
      length: source.readUInt32LE(at + 12),
    };
  },
} as const;

/** struct socket_record, 16 bytes. */
export interface SocketRecord {
  id: number;
  kind: number;
  offset: number;
  length: number;
}

export const socketRecordCodec = {
  size: 16,
  offsets: { id: 0, kind: 4, offset: 8, length: 12 },
  write(target: Buffer, at: number, value: SocketRecord): void {
    target.fill(0, at, at + 16);
    target.writeUInt32LE(value.id, at + 0);
    target.writeUInt32LE(value.kind, at + 4);
    target.writeUInt32LE(value.offset, at + 8);
    target.writeUInt32LE(value.length, at + 12);
  },
  read(source: Buffer, at: number): SocketRecord {
    if (source.length < at + 16) throw new RangeError('struct socket_record is cut short');
    return {
      id: source.readUInt32LE(at + 0),
      kind: source.readUInt32LE(at + 4),
      offset: source.readUInt32LE(at + 8),
      length: source.readUInt32LE(at + 12),
    };
  },
} as const;

/** struct socket_ends, 40 bytes. */
export interface SocketEnds {
  remote: Uint8Array;
  local: Uint8Array;
  remotePort: number;
  localPort: number;
  endpoint: number;
}

export const socketEndsCodec = {
  size: 40,
  offsets: { remote: 0, local: 16, remotePort: 32, localPort: 34, endpoint: 36 },
  write(target: Buffer, at: number, value: SocketEnds): void {
    target.fill(0, at, at + 40);
    target.set(value.remote.subarray(0, 16), at + 0);
    target.set(value.local.subarray(0, 16), at + 16);
    target.writeUInt16LE(value.remotePort, at + 32);
    target.writeUInt16LE(value.localPort, at + 34);
    target.writeUInt32LE(value.endpoint, at + 36);
  },
  read(source: Buffer, at: number): SocketEnds {
    if (source.length < at + 40) throw new RangeError('struct socket_ends is cut short');
    return {
      remote: Uint8Array.prototype.slice.call(source, at + 0, at + 16),
      local: Uint8Array.prototype.slice.call(source, at + 16, at + 32),
      remotePort: source.readUInt16LE(at + 32),
      localPort: source.readUInt16LE(at + 34),
      endpoint: source.readUInt32LE(at + 36),
    };
  },
} as const;

/** struct sockets_memory, 64 bytes. */
export interface SocketsMemory {
  turn: bigint;
  in: bigint;
  out: bigint;
  commands: bigint;
  events: bigint;
  inCapacity: bigint;
  outCapacity: bigint;
  eventCapacity: bigint;
}

export const socketsMemoryCodec = {
  size: 64,
  offsets: { turn: 0, in: 8, out: 16, commands: 24, events: 32, inCapacity: 40, outCapacity: 48, eventCapacity: 56 },
  write(target: Buffer, at: number, value: SocketsMemory): void {
    target.fill(0, at, at + 64);
    target.writeBigUInt64LE(value.turn, at + 0);
    target.writeBigUInt64LE(value.in, at + 8);
    target.writeBigUInt64LE(value.out, at + 16);
    target.writeBigUInt64LE(value.commands, at + 24);
    target.writeBigUInt64LE(value.events, at + 32);
    target.writeBigUInt64LE(value.inCapacity, at + 40);
    target.writeBigUInt64LE(value.outCapacity, at + 48);
    target.writeBigUInt64LE(value.eventCapacity, at + 56);
  },
  read(source: Buffer, at: number): SocketsMemory {
    if (source.length < at + 64) throw new RangeError('struct sockets_memory is cut short');
    return {
      turn: source.readBigUInt64LE(at + 0),
      in: source.readBigUInt64LE(at + 8),
      out: source.readBigUInt64LE(at + 16),
      commands: source.readBigUInt64LE(at + 24),
      events: source.readBigUInt64LE(at + 32),
      inCapacity: source.readBigUInt64LE(at + 40),
      outCapacity: source.readBigUInt64LE(at + 48),
      eventCapacity: source.readBigUInt64LE(at + 56),
    };
  },
} as const;

/** struct flow_turn, 12 bytes. */
export interface FlowTurn {
  timeoutMs: number;
  verdictCount: number;
  releaseCount: number;
}

export const flowTurnCodec = {
  size: 12,
  offsets: { timeoutMs: 0, verdictCount: 4, releaseCount: 8 },
  write(target: Buffer, at: number, value: FlowTurn): void {
    target.fill(0, at, at + 12);
    target.writeUInt32LE(value.timeoutMs, at + 0);
    target.writeUInt32LE(value.verdictCount, at + 4);
    target.writeUInt32LE(value.releaseCount, at + 8);
  },
  read(source: Buffer, at: number): FlowTurn {
    if (source.length < at + 12) throw new RangeError('struct flow_turn is cut short');
    return {
      timeoutMs: source.readUInt32LE(at + 0),
      verdictCount: source.readUInt32LE(at + 4),
      releaseCount: source.readUInt32LE(at + 8),
    };
  },
} as const;

/** struct flow_memory, 56 bytes. */
export interface FlowMemory {
  turn: bigint;
  batch: bigint;
  verdictKeys: bigint;
  verdictValues: bigint;
  offsets: bigint;
  errors: bigint;
  batchCapacity: bigint;
}

export const flowMemoryCodec = {
  size: 56,
  offsets: { turn: 0, batch: 8, verdictKeys: 16, verdictValues: 24, offsets: 32, errors: 40, batchCapacity: 48 },
  write(target: Buffer, at: number, value: FlowMemory): void {
    target.fill(0, at, at + 56);
    target.writeBigUInt64LE(value.turn, at + 0);
    target.writeBigUInt64LE(value.batch, at + 8);
    target.writeBigUInt64LE(value.verdictKeys, at + 16);
    target.writeBigUInt64LE(value.verdictValues, at + 24);
    target.writeBigUInt64LE(value.offsets, at + 32);
    target.writeBigUInt64LE(value.errors, at + 40);
    target.writeBigUInt64LE(value.batchCapacity, at + 48);
  },
  read(source: Buffer, at: number): FlowMemory {
    if (source.length < at + 56) throw new RangeError('struct flow_memory is cut short');
    return {
      turn: source.readBigUInt64LE(at + 0),
      batch: source.readBigUInt64LE(at + 8),
      verdictKeys: source.readBigUInt64LE(at + 16),
      verdictValues: source.readBigUInt64LE(at + 24),
      offsets: source.readBigUInt64LE(at + 32),
      errors: source.readBigUInt64LE(at + 40),
      batchCapacity: source.readBigUInt64LE(at + 48),
    };
  },
} as const;

/** Handles are addresses, as numbers: size_t. */
export const FUNCTIONS = {
  sluice_log__set: ['void', ['pointer']],
  sluice_kernel__is_bpffs: ['int', ['string']],
  sluice_kernel__cpus: ['int', []],
  sluice_kernel__ifindex: ['int', ['string']],
  sluice_kernel__is_peered: ['int', ['uint32']],
  sluice_kernel__now_ns: ['uint64', []],
  sluice_object__load: ['int', ['pointer', 'pointer']],
  sluice_object__load_again: ['int', ['pointer', 'size_t', 'pointer']],
  sluice_object__commit: ['int', ['size_t']],
  sluice_object__map: ['int', ['size_t', 'string']],
  sluice_object__program: ['int', ['size_t', 'string']],
  sluice_object__close: ['void', ['size_t']],
  sluice_link__attach: ['int', ['int', 'uint32', 'uint32', 'string']],
  sluice_link__detach: ['int', ['uint32', 'uint32', 'string']],
  sluice_veths__open: ['int', []],
  sluice_veths__list: ['int', ['int', 'pointer', 'pointer', 'uint32']],
  sluice_veths__network: ['int', ['int', 'string']],
  sluice_veths__close: ['void', ['int']],
  sluice_cgroup__attach: ['int', ['int', 'string', 'string']],
  sluice_cgroup__detach: ['int', ['string']],
  sluice_map__update: ['int', ['int', 'pointer', 'uint32', 'pointer', 'uint32', 'uint32', 'pointer']],
  sluice_map__delete: ['int', ['int', 'pointer', 'uint32', 'uint32', 'pointer']],
  sluice_map__sizes: ['int', ['int', 'pointer']],
  sluice_map__lookup: ['int', ['int', 'pointer', 'pointer']],
  sluice_map__dump: ['int', ['int', 'pointer', 'uint32', 'pointer', 'uint32', 'uint32']],
  sluice_map__open: ['int', ['string']],
  sluice_map__close: ['void', ['int']],
  sluice_connections__count: ['int', ['int', 'uint64', 'pointer', 'uint32']],
  sluice_names__collect: ['int', ['int', 'int', 'int', 'int', 'uint64', 'uint32', 'pointer']],
  sluice_ring__open: ['int', ['int', 'int', 'pointer']],
  sluice_ring__drain: ['int', ['size_t', 'pointer', 'uint32', 'int', 'pointer']],
  sluice_ring__wake: ['int', ['size_t']],
  sluice_ring__close: ['void', ['size_t']],
  sluice_release__open: ['int', ['string', 'string', 'int', 'string', 'uint32', 'pointer']],
  sluice_release__send: ['int', ['size_t', 'pointer', 'pointer', 'uint32', 'pointer']],
  sluice_release__close: ['void', ['size_t']],
  sluice_release__remove: ['int', ['string']],
  sluice_proxy__open: ['int', ['pointer', 'pointer', 'pointer']],
  sluice_proxy__drain: ['void', ['size_t']],
  sluice_proxy__close: ['void', ['size_t']],
  sluice_proxy__connect: ['int', ['int', 'pointer', 'pointer', 'uint32']],
  sluice_sockets__open: ['int', ['size_t', 'pointer', 'pointer', 'pointer']],
  sluice_sockets__turn: ['int', ['size_t']],
  sluice_sockets__commit: ['int', ['size_t']],
  sluice_sockets__connect: ['int', ['size_t', 'pointer', 'pointer', 'uint32']],
  sluice_sockets__take: ['int', ['size_t', 'uint32']],
  sluice_sockets__wake: ['int', ['size_t']],
  sluice_sockets__close: ['void', ['size_t']],
  sluice_flow__open: ['int', ['size_t', 'size_t', 'int', 'pointer']],
  sluice_flow__drain: ['int', []],
  sluice_flow__settle: ['int', []],
  sluice_memory__map: ['int', ['string', 'uint64', 'pointer']],
  sluice_program__test: ['int', ['int', 'pointer', 'uint32', 'uint32', 'pointer', 'pointer', 'pointer']],
  sluice_program__ask: ['int', ['int', 'pointer', 'uint32', 'uint32', 'uint32', 'pointer']],
} as const;
