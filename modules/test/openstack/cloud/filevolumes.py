"""A driver for Cinder whose volumes are files on this machine.

Cinder's own drivers need LVM, iSCSI or a cluster. Nova has a driver that boots from
a file on a shared file system (GPFS) whose path it is told, which is what happens
here, without the shared file system.
"""

import os

from cinder import interface
from cinder.image import image_utils
from cinder.volume import driver
from oslo_config import cfg

OPTIONS = [cfg.StrOpt("volume_directory", help="Where the volumes are.")]


@interface.volumedriver
class FileDriver(driver.VolumeDriver):
    VERSION = "1.0"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(OPTIONS)

    def _path(self, volume):
        return os.path.join(self.configuration.volume_directory, volume.id)

    def check_for_setup_error(self):
        os.makedirs(self.configuration.volume_directory, exist_ok=True)

    def _update_volume_stats(self):
        self._stats = {
            "volume_backend_name": self.configuration.safe_get("volume_backend_name"),
            "vendor_name": "test",
            "driver_version": self.VERSION,
            "storage_protocol": "file",
            "total_capacity_gb": 100,
            "free_capacity_gb": 100,
            "reserved_percentage": 0,
        }

    def create_volume(self, volume):
        with open(self._path(volume), "wb") as f:
            f.truncate(volume.size << 30)

    def delete_volume(self, volume):
        if os.path.exists(self._path(volume)):
            os.unlink(self._path(volume))

    def copy_image_to_volume(self, context, volume, image_service, image_id, disable_sparse=False):
        image_utils.fetch_to_raw(
            context, image_service, image_id, self._path(volume), "1M", size=volume.size, run_as_root=False
        )
        os.truncate(self._path(volume), volume.size << 30)

    def clone_image(self, context, volume, image_location, image_meta, image_service):
        return None, False

    def ensure_export(self, context, volume):
        pass

    def create_export(self, context, volume, connector):
        pass

    def remove_export(self, context, volume):
        pass

    def initialize_connection(self, volume, connector):
        return {"driver_volume_type": "gpfs", "data": {"name": volume.name, "device_path": self._path(volume)}}

    def terminate_connection(self, volume, connector, **kwargs):
        pass
