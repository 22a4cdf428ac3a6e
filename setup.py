"""What pyproject.toml cannot say: the repository's configs/ lies inside the package of a wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigurations(build_py):
    """Copies configs/ into the package; an editable installation reads it where it is."""

    def run(self) -> None:
        """Build as usual, then add the YAML files."""
        super().run()
        if not self.editable_mode:
            inside = Path(self.build_lib) / "ftbc_lightning" / "configs"
            shutil.copytree("configs", inside, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithConfigurations})
