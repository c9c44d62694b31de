/** The class that a plugin author extends. Which methods answer which hooks is said by @on, which plugin it is by @policy. */
import { Config } from './config';

export class Policy {
  /** Takes the configuration, once, before the first evaluation. Throwing refuses it: the message reaches the operator. */
  configure(config: Config): void {}
}
