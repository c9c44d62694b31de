/** The question that a plugin is asked, as the host has it. One object is filled anew for each evaluation: nothing is allocated. */
import { Context } from '../abi.gen.ts';

/** The texts of one identity, encoded once. UTF-8. */
export interface IdentityTexts {
  readonly namespace: Uint8Array;
  /** One `key=value` a line. */
  readonly labels: Uint8Array;
}

/** The texts of one pod, encoded once. UTF-8. */
export interface PodTexts {
  readonly name: Uint8Array;
  /** Undefined where no source says. */
  readonly serviceAccount: Uint8Array | undefined;
}

/** Source and destination address, 16 bytes each, as little-endian words. */
export const ADDRESS_WORDS = 8;

const NONE: readonly string[] = [];

export class Question {
  hook: Context = Context.CONNECT;
  /** The addresses are ADDRESS_WORDS words of this, from `wordsAt` on. */
  words: Int32Array = new Int32Array(ADDRESS_WORDS);
  wordsAt = 0;
  sourceIdentity = 0;
  destinationIdentity = 0;
  sourcePort = 0;
  destinationPort = 0;
  protocol = 0;
  direction = 0;
  established = false;
  rule = 0;
  /** On the monotonic clock. */
  timeMs = 0;
  source: IdentityTexts | undefined;
  destination: IdentityTexts | undefined;
  sourcePod: PodTexts | undefined;
  destinationPod: PodTexts | undefined;
  /** `namespace/name` of the Service whose cluster address the destination is; undefined where it is none's. UTF-8. */
  destinationService: Uint8Array | undefined;
  /** Texts of the conversation: a character is a byte. Empty where there is none. */
  serverName = '';
  /** One a line. */
  applicationProtocols = '';
  encryptedHello = false;
  dnsName = '';
  dnsType = 0;
  dnsTtlS = 0;
  /** One a line. */
  dnsAddresses = '';
  method = '';
  host = '';
  path = '';
  query = '';
  /** Names, in lower case, and values in turn. */
  headers: readonly string[] = NONE;

  /** Forgets what the conversation of another question said. */
  clearTexts(): void {
    this.serverName = '';
    this.applicationProtocols = '';
    this.encryptedHello = false;
    this.dnsName = '';
    this.dnsType = 0;
    this.dnsTtlS = 0;
    this.dnsAddresses = '';
    this.method = '';
    this.host = '';
    this.path = '';
    this.query = '';
    this.headers = NONE;
  }
}

/**
 * The first cookie of a name, as RFC 6265 separates them; undefined when there is none.
 *
 * @example
 * findCookie('theme=dark; canary=v2', 'canary') // 'v2'
 * findCookie('theme=dark', 'canary') // undefined
 */
export function findCookie(cookies: string, name: string): string | undefined {
  for (let from = 0; from < cookies.length; ) {
    let end = cookies.indexOf(';', from);
    if (end < 0) end = cookies.length;
    while (cookies.charCodeAt(from) === 0x20) from++;
    if (cookies.startsWith(name, from) && cookies.charCodeAt(from + name.length) === 0x3d)
      return cookies.slice(from + name.length + 1, end);
    from = end + 1;
  }
  return undefined;
}
