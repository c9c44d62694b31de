/** The checksums of packets: filled in, and compared. Sources: RFC 1071; RFC 9293, 3.1; RFC 8200, 8.1. */
const ETHERNET = 14;
/** Where a transport protocol has its own, from its header on; what is not here has none over addresses. */
const PLACES: Readonly<Record<number, number>> = { 1: 2, 6: 16, 17: 6, 58: 2 };

/** The frame with every checksum that it has filled in. */
export function summed(frame: Buffer): Buffer {
  const copy = Buffer.from(frame);
  for (const { at, over } of checksumsOf(copy)) {
    copy.writeUInt16BE(0, at);
    copy.writeUInt16BE(~fold(over()) & 0xffff, at);
  }
  return copy;
}

/** Whether every checksum of the frame is right; that of SCTP is not looked at. */
export function isSummed(frame: Buffer): boolean {
  return checksumsOf(frame).every(({ over }) => fold(over()) === 0xffff);
}

function checksumsOf(frame: Buffer): { at: number; over: () => Buffer }[] {
  const ipv4 = frame.readUInt16BE(12) === 0x0800;
  const header = ipv4 ? ((frame[ETHERNET] ?? 0) & 15) * 4 : 40;
  const transport = ETHERNET + header;
  const protocol = frame[ETHERNET + (ipv4 ? 9 : 6)] ?? 0;
  const place = PLACES[protocol];
  const segment = (): Buffer => frame.subarray(transport);
  const pseudo = (): Buffer => {
    const tail = Buffer.alloc(8);
    tail.writeUInt32BE(frame.length - transport, 0);
    tail.writeUInt32BE(protocol, 4);
    const ends = ipv4 ? frame.subarray(ETHERNET + 12, ETHERNET + 20) : frame.subarray(ETHERNET + 8, ETHERNET + 40);
    return protocol === 1 ? Buffer.alloc(0) : Buffer.concat([ends, tail]);
  };
  return [
    ...(ipv4 ? [{ at: ETHERNET + 10, over: () => frame.subarray(ETHERNET, transport) }] : []),
    ...(place === undefined ? [] : [{ at: transport + place, over: () => Buffer.concat([pseudo(), segment()]) }]),
  ];
}

/** The sum of 16-bit words in one's complement. */
function fold(bytes: Buffer): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}
