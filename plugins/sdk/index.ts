/** All that a plugin imports from "@sluice/plugin-sdk". */
export { Address } from './address';
export { Config } from './config';
export { Destination, Flow, Source } from './flow';
export { Connection, DnsAnswer, HttpRequest, TlsHello } from './hooks';
export { clock, Counters, HostSet, Key, key, log } from './host';
export { Policy, Policy as ConnectPolicy, Policy as DnsPolicy, Policy as HttpPolicy, Policy as TlsPolicy } from './policy';
export { Text } from './text';
export { allow, audit, deny, next, nxdomain, route, setCookie, Verdict } from './verdict';
