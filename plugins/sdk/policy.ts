/** What a plugin author extends, and how the plugin is made known. */
import { Config } from './config';
import { Connection } from './connection';
import { next, Verdict } from './verdict';

export class ConnectPolicy {
  /** Takes the configuration, once, before the first evaluation. Throwing refuses it: the message reaches the author. */
  configure(config: Config): void {}

  /** Decides about a connection that policy tagged for this plugin. */
  onConnect(connection: Connection): Verdict { return next(); }
}

let registered: ConnectPolicy | null = null;

/** Makes a policy the one that this module evaluates. */
export function register(policy: ConnectPolicy): void { registered = policy; }

export function registeredPolicy(): ConnectPolicy {
  const policy = registered;
  if (policy === null) throw new Error('the plugin registers no policy: call register(new YourPolicy())');
  return policy;
}
