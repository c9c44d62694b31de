/** A DNS answer as a plugin sees it, and what becomes of its bytes: other TTLs, or an answer that says no (RFC 1035). */
import { formatAddress } from '../policy/address.ts';
import { wireToName } from '../policy/domain-name.ts';

/** Over TCP a message follows its length (RFC 1035, 4.2.2). */
export const LENGTH_PREFIX = 2;
const HEADER = 12;
/** Type and class. */
const QUESTION_TAIL = 4;
const RECORD_HEAD = 10;
const LABEL_MAX = 63;
const POINTER = 0xc0;
const Type = { A: 1, AAAA: 28, OPT: 41 } as const;
const INTERNET = 1;
const Flag = { ANSWER: 0x8000, OPCODE: 0x7800, TRUNCATED: 0x0200, RECURSION_DESIRED: 0x0100, RECURSION_AVAILABLE: 0x0080 } as const;
const REFUSED = 5;
const CODES = 0xf;
/** An OPT record with nothing but padding (RFC 6891, 6.1.2, and RFC 7830): its fixed part. */
const OPT_HEAD = 11;
const PADDED = OPT_HEAD + 4;
/** Of datagrams that we would take: what fits everywhere. */
const UDP_SIZE = 1232;
const PADDING_OPTION = 12;

export interface DnsAnswer {
  /** In lower case, without a dot at the end. */
  readonly name: string;
  /** Of the question: 1 A, 28 AAAA, ... */
  readonly type: number;
  readonly addresses: readonly string[];
  /** The least of its records; 0 when it has none. */
  readonly ttlS: number;
  /** Where in the message the question ends, and where the TTL of each record is. */
  readonly questionEnd: number;
  readonly ttlAt: readonly number[];
}

/** Reads an answer to one question; undefined when it is none, or is damaged. */
export function readAnswer(message: Buffer): DnsAnswer | undefined {
  const questionEnd = findAnsweredQuestion(message);
  if (questionEnd === undefined) return undefined;
  const nameEnd = questionEnd - QUESTION_TAIL;
  const addresses: string[] = [];
  const ttlAt: number[] = [];
  let ttlS = Number.POSITIVE_INFINITY;
  let at = questionEnd;
  const answers = message.readUInt16BE(6);
  const records = answers + message.readUInt16BE(8) + message.readUInt16BE(10);
  for (let i = 0; i < records; i++) {
    const head = skipName(message, at, true);
    if (head === undefined || head + RECORD_HEAD > message.length) return undefined;
    const length = message.readUInt16BE(head + 8);
    const data = head + RECORD_HEAD;
    if (data + length > message.length) return undefined;
    const type = message.readUInt16BE(head);
    if (type !== Type.OPT) ttlAt.push(head + 4);
    if (i < answers) {
      ttlS = Math.min(ttlS, message.readUInt32BE(head + 4));
      if (message.readUInt16BE(head + 2) === INTERNET) {
        const bytes = message.subarray(data, data + length);
        if (type === Type.A && length === 4) addresses.push(bytes.join('.'));
        else if (type === Type.AAAA && length === 16) addresses.push(formatAddress(bytes));
      }
    }
    at = data + length;
  }
  return {
    name: wireToName(message.subarray(HEADER, nameEnd)).toLowerCase(),
    type: message.readUInt16BE(nameEnd),
    addresses,
    ttlS: ttlS === Number.POSITIVE_INFINITY ? 0 : ttlS,
    questionEnd,
    ttlAt,
  };
}

/** Makes a query the answer that refuses it, with this response code. Returns undefined when it has no question. */
export function refuseQuery(query: Buffer, code: number): Buffer | undefined {
  const questionEnd = findQuestionEnd(query);
  if (questionEnd === undefined) return undefined;
  const answer = Buffer.from(query.subarray(0, questionEnd));
  answer.writeUInt16BE(Flag.ANSWER | (query.readUInt16BE(2) & (Flag.OPCODE | Flag.RECURSION_DESIRED)) | (code & CODES || REFUSED), 2);
  answer.writeUInt16BE(1, 4);
  answer.fill(0, 6, HEADER);
  return answer;
}

/** Makes the beginning of an answer one that says that it is not whole (RFC 1035, 4.1.1). Returns its bytes; undefined when it has no question. */
export function truncate(message: Buffer): number | undefined {
  const questionEnd = findAnsweredQuestion(message);
  if (questionEnd === undefined) return undefined;
  message.writeUInt16BE(message.readUInt16BE(2) | Flag.TRUNCATED, 2);
  message.fill(0, 6, HEADER);
  return questionEnd;
}

/** Behind the one question of an answer. */
function findAnsweredQuestion(message: Buffer): number | undefined {
  const isAnswer = message.length >= HEADER && (message.readUInt16BE(2) & Flag.ANSWER) !== 0 && message.readUInt16BE(4) === 1;
  return isAnswer ? findQuestionEnd(message) : undefined;
}

/** Behind the first question; undefined when it is not there. */
function findQuestionEnd(message: Buffer): number | undefined {
  const nameEnd = skipName(message, HEADER, false);
  return nameEnd === undefined || nameEnd + QUESTION_TAIL > message.length ? undefined : nameEnd + QUESTION_TAIL;
}

/** Behind a name; undefined when it does not end. */
function skipName(message: Buffer, from: number, pointers: boolean): number | undefined {
  for (let at = from; at < message.length; ) {
    const length = message[at] as number;
    if (!length) return at + 1;
    if (length >= POINTER) return pointers && at + 2 <= message.length ? at + 2 : undefined;
    if (length > LABEL_MAX) return undefined;
    at += 1 + length;
  }
  return undefined;
}

/** Lets nothing in the answer live longer. */
export function capTtl(message: Buffer, { ttlAt }: DnsAnswer, ttlS: number): void {
  for (const at of ttlAt) message.writeUInt32BE(Math.min(message.readUInt32BE(at), ttlS), at);
}

/**
 * Makes it an answer that says no, with this response code (0: REFUSED). Returns how many bytes it has then, or fills what is
 * left with padding where its length must stay: within a TCP stream.
 */
export function refuse(message: Buffer, { questionEnd }: DnsAnswer, code: number, keepLength: boolean): number {
  const kept = message.readUInt16BE(2) & (Flag.OPCODE | Flag.RECURSION_DESIRED | Flag.RECURSION_AVAILABLE);
  message.writeUInt16BE(Flag.ANSWER | kept | (code & CODES || REFUSED), 2);
  message.fill(0, 6, HEADER);
  const left = message.length - questionEnd;
  if (!keepLength) return questionEnd;
  message.fill(0, questionEnd);
  if (left < PADDED) return message.length;
  message.writeUInt16BE(1, 10);
  message.writeUInt16BE(Type.OPT, questionEnd + 1);
  message.writeUInt16BE(UDP_SIZE, questionEnd + 3);
  message.writeUInt16BE(left - OPT_HEAD, questionEnd + 9);
  message.writeUInt16BE(PADDING_OPTION, questionEnd + 11);
  message.writeUInt16BE(left - PADDED, questionEnd + 13);
  return message.length;
}
