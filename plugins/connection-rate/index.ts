/** Limits how many connections each source opens. The counters are the host's: a swap or a restart gives nobody a new start. */
import { allow, Config, Connection, Counters, deny, key, Policy, Verdict } from '@sluice/plugin-sdk';

const opened = new Counters('opened', 16384);

@policy({ name: 'connection-rate', version: '1.0.0' })
export class ConnectionRate extends Policy {
  private limit: i32 = 10;
  private windowMs: u64 = 1000;

  configure(config: Config): void {
    this.limit = <i32>config.number('connections', 10);
    this.windowMs = <u64>(config.number('seconds', 1) * 1000);
    if (this.limit < 1 || this.windowMs < 100) throw new Error('connections must be at least 1, seconds at least 0.1');
  }

  @on('connect')
  onConnect(connection: Connection): Verdict {
    if (connection.isEstablished) return allow();
    // A sliding window: of the window before counts what of it lies within the last windowMs.
    const window = connection.timeMs / this.windowMs;
    const past = connection.timeMs % this.windowMs;
    const before = opened.get(key().address(connection.source.address).number(window - 1));
    const carried = <i32>((<u64>before * (this.windowMs - past)) / this.windowMs);
    const now = key().address(connection.source.address).number(window);
    // A refused connection does not count: it would keep a client out that goes on trying.
    if (carried + opened.get(now) >= this.limit) return deny('too many new connections');
    opened.add(now);
    return allow();
  }
}
