/** What a plugin imports from "@sluice/plugin-sdk". */
export { Config } from './config';
export { Connection, Party } from './connection';
export { ConnectPolicy, register } from './policy';
export { Text } from './text';
export { TokenBuckets } from './token-buckets';
export { allow, deny, next, Verdict } from './verdict';
