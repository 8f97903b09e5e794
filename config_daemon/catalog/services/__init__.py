"""The service models that this program ships, one a file; imported one by one when they are asked for."""

from __future__ import annotations

from typing import Final

SHIPPED: Final = {
    "agent-worker": "agent_worker:AgentWorkerConfig",
    "backend-api": "backend_api:BackendApiConfig",
    "dev-environment": "dev_environment:DevEnvironmentConfig",
    "global": "fleet:GlobalConfig",
    "llm-worker": "llm_worker:LLMWorkerConfig",
    "memory-worker": "memory_worker:MemoryWorkerConfig",
    "router": "router:RouterConfig",
    "stt-worker": "stt_worker:STTWorkerConfig",
    "tts-worker": "tts_worker:TTSWorkerConfig",
}
"""Service name → the module below this package, and the class in it."""
