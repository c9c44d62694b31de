/** The SDK by the names that its compiled instances have: which of them reads which field of the question, and which needs which capability. */
import { HOST_FUNCTIONS } from '../plugin-runtime/abi.ts';

/** Instances of the compiled SDK, and the field that each reads. Party<u8> is the source, Party<u16> the destination. */
const PARTY_FIELDS = {
  'get:identity': 'identity',
  'get:namespace': 'namespace',
  label: 'labels',
  'get:pod': 'pod',
  'get:address': 'address',
};
export const ACCESSOR_FIELDS: ReadonlyMap<string, string> = new Map([
  ...Object.entries(PARTY_FIELDS).flatMap(([accessor, field]): [string, string][] => [
    [`flow/Party<u8>#${accessor}`, `source-${field}`],
    [`flow/Party<u16>#${accessor}`, `destination-${field}`],
  ]),
  ['flow/Source#get:serviceAccount', 'source-service-account'],
  ['flow/Destination#get:service', 'destination-service'],
  ['flow/Flow#get:port', 'destination-port'],
  ['flow/Flow#get:sourcePort', 'source-port'],
  ['flow/Flow#get:protocol', 'protocol'],
  ['flow/Flow#get:isEgress', 'direction'],
  ['flow/Flow#get:timeMs', 'time'],
  ['flow/Flow#get:isEstablished', 'established'],
  ['flow/Flow#get:id', 'flow'],
  ['flow/Flow#get:tag', 'tag'],
  ['hooks/Connection#get:destinationName', 'dns-name'],
  ['hooks/DnsAnswer#get:name', 'dns-name'],
  ['hooks/DnsAnswer#get:type', 'dns-answer'],
  ['hooks/DnsAnswer#get:ttlSeconds', 'dns-answer'],
  ['hooks/DnsAnswer#get:addresses', 'dns-answer'],
  ['hooks/TlsHello#get:serverName', 'server-name'],
  ['hooks/TlsHello#get:isEncrypted', 'server-name'],
  ['hooks/TlsHello#get:applicationProtocols', 'application-protocols'],
  ['hooks/TlsHello#get:destinationName', 'dns-name'],
  ['hooks/HttpRequest#get:method', 'method'],
  ['hooks/HttpRequest#get:host', 'host'],
  ['hooks/HttpRequest#get:path', 'path'],
  ['hooks/HttpRequest#get:query', 'query'],
]);
/** The SDK's declarations, host/kvAdd of sluice.kv_add, and the capability that each needs. */
export const HOST_CAPABILITIES: ReadonlyMap<string, string> = new Map(
  [...HOST_FUNCTIONS].flatMap(([name, { capability }]): [string, string][] =>
    capability
      ? [[`host/${name.replace('sluice.', '').replace(/_([a-z])/g, (_bar, letter: string) => letter.toUpperCase())}`, capability]]
      : [],
  ),
);
