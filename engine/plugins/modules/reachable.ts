/**
 * Which addresses a module may be fetched from. Who writes a PolicyPlugin has the engine ask where they cannot go themselves: a
 * cloud's metadata service answers whoever sends from the node, and so do programs on its loopback.
 *
 * The address that is checked is the one that is connected to: a name that resolves otherwise the next time gains nothing.
 */
import { type LookupAddress, type LookupOptions, lookup } from 'node:dns';
import { EngineError } from '../../errors.ts';
import { isIpv4, type Network, networkOf, parseAddress, parseNetwork } from '../../policy/address.ts';

const networks = (...texts: string[]): Network[] =>
  texts.map((text) => {
    const network = parseNetwork(text);
    if (!network) throw new Error(`${text} is no network`);
    return network;
  });

const LOOPBACK = networks('127.0.0.0/8', '::1/128');

/** "This" network, link-local (in it the metadata services of most clouds), multicast, what is reserved, and addresses with an IPv4 one in their last bits. */
const NOWHERE = networks('0.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3', '::/96', 'fe80::/10', 'fec0::/10', 'ff00::/8');

/** Metadata services elsewhere: Alibaba Cloud, Azure, Oracle Cloud, Amazon and Google over IPv6. */
const METADATA = networks('100.100.100.200/32', '168.63.129.16/32', '192.0.0.0/24', 'fd00:ec2::254/128', 'fd20:ce::254/128');

/** Translated to the IPv4 address in them: RFC 6052, 2.1, and RFC 3056. Where that begins, in bytes. */
const EMBEDDING = [
  ...networks('64:ff9b::/96').map((network) => ({ network, at: 12 })),
  ...networks('2002::/16').map((network) => ({ network, at: 2 })),
];

/** Whether a module may come from an address: as text, without brackets. An address that cannot be read is none. */
export function isReachable(text: string, loopback: boolean): boolean {
  const address = parseAddress(text);
  if (!address) return false;
  const inside = ({ bits, key }: Network): boolean => networkOf(address, bits).key === key;
  if (LOOPBACK.some(inside)) return loopback;
  if (METADATA.some(inside) || NOWHERE.some(inside)) return false;
  if (isIpv4(address)) return true;
  const embedded = EMBEDDING.find(({ network }) => inside(network));
  return !embedded || isReachable(address.subarray(embedded.at, embedded.at + 4).join('.'), loopback);
}

type Callback = (error: NodeJS.ErrnoException | null, address: string | LookupAddress[], family?: number) => void;

/** A lookup for sockets that gives out only addresses that a module may come from. */
export function reachableLookup(loopback: boolean): (host: string, options: LookupOptions, callback: Callback) => void {
  return (host, options, callback) => {
    lookup(host, { ...options, all: true }, (error, found) => {
      if (error) {
        callback(error, []);
        return;
      }
      const usable = found.filter(({ address }) => isReachable(address, loopback));
      const [first] = usable;
      if (!first) callback(refusedHost(host), []);
      else if (options.all) callback(null, usable);
      else callback(null, first.address, first.family);
    });
  };
}

/** The host of a URL that is an address itself, which no lookup sees. @throws EngineError `PLUGIN_INVALID` */
export function checkHost({ hostname }: URL, loopback: boolean): void {
  const literal = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
  if (parseAddress(literal) && !isReachable(literal, loopback)) throw refusedHost(literal);
}

function refusedHost(host: string): EngineError {
  return new EngineError(
    'PLUGIN_INVALID',
    `${host} is no address that a module may come from: it is of this machine, or of its cloud’s metadata service`,
  );
}
