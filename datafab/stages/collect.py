"""Collect (being written)."""

from __future__ import annotations

from datafab.stage import Stage

STAGES: tuple[Stage, ...] = ()
