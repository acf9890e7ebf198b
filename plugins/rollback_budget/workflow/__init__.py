"""Old homes of classes whose paths Airflow's databases hold; nothing else stands here, and it goes at 1.0."""
