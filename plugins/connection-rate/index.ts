/** Limits how many new connections each source opens. Configuration: `perSecond: 5`, `burst: 10`. */
import { allow, Config, Connection, ConnectPolicy, deny, register, TokenBuckets, Verdict } from '@sluice/plugin-sdk';

class ConnectionRate extends ConnectPolicy {
  private buckets: TokenBuckets = new TokenBuckets(5, 10);

  configure(config: Config): void {
    this.buckets = new TokenBuckets(config.number('perSecond', 5), config.number('burst', 10));
  }

  onConnect(connection: Connection): Verdict {
    if (connection.isEstablished) return allow();
    return this.buckets.take(connection.source.addressKey, connection.timeMs) ? allow() : deny('too many new connections');
  }
}

register(new ConnectionRate());
