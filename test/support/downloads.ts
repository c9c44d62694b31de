/** Downloads from web servers of a test: one certificate for all of a file's tests, and after each everything is closed. */
import { afterEach, beforeAll } from 'vitest';
import { Downloader, type DownloaderParts } from '../../engine/plugins/modules/download.ts';
import { type Certificate, makeCertificate, WebServers } from './web-server.ts';

export class DownloadStand {
  readonly servers = new WebServers();
  readonly #downloaders: Downloader[] = [];
  #tls: Certificate | undefined;

  /** To be made where hooks are: at the top of a file. */
  constructor() {
    beforeAll(() => {
      this.#tls = makeCertificate();
    });
    afterEach(async () => {
      for (const downloader of this.#downloaders.splice(0)) await downloader.close();
      await this.servers.close();
    });
  }

  get tls(): Certificate {
    return this.#tls as Certificate;
  }

  /** One that believes the certificate, and takes the loopback for an address like any other. */
  open(parts: Partial<DownloaderParts> = {}): Downloader {
    const downloader = new Downloader({ loopback: true, authority: this.tls.cert, ...parts });
    this.#downloaders.push(downloader);
    return downloader;
  }
}
