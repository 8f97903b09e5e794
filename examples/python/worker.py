import os

from config_daemon.worker import Change, ConfigClient


def apply(change: Change) -> None:
    print(f"{change.service} changed {', '.join(change.keys)}: {change.new}", flush=True)


client = ConfigClient(
    "stt-worker", worker="kitchen", broker=os.environ["MQTT_URL"], state="state",
    public_key=os.environ["CONFIG_SIGNATURE_PUBLIC_KEY"], apply=apply,
)  # fmt: skip
client.run()
