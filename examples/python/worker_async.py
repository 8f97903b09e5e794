import asyncio
import os

from config_daemon.worker import AsyncConfigClient


async def main() -> None:
    async with AsyncConfigClient(
        "stt-worker", worker="kitchen", broker=os.environ["MQTT_URL"], state="state",
        public_key=os.environ["CONFIG_SIGNATURE_PUBLIC_KEY"],
    ) as client:  # fmt: skip
        async for change in client.changes():
            print(f"{change.service} changed {', '.join(change.keys)}: {change.new}", flush=True)


asyncio.run(main())
