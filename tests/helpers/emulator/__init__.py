"""The emulator of the Gemini API, in parts; its front is tests/gemini_emulator.py."""
